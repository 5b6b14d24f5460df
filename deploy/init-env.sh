#!/bin/sh
# Makes deploy/.env with fresh secrets for compose.yaml. Never overwrites one: with another
# POSTRIDER_SECRET_KEY the stored secrets of all subscribers could not be read any more.
set -eu
umask 077

file=${1:-"$(dirname "$0")/.env"}

if [ -e "$file" ]; then
    echo "init-env: $file exists already and stays as it is" >&2
    exit 1
fi
if ! command -v openssl >/dev/null; then
    echo "init-env: openssl is needed to make secrets; install it first" >&2
    exit 1
fi

# Each in a statement of its own: a failure inside of the here-document would leave an empty secret.
postgres_password=$(openssl rand -hex 24)
admin_key=$(openssl rand -hex 32)
secret_key=$(openssl rand -base64 32)
grafana_password=$(openssl rand -hex 12)

# Written beside and moved, so that an interrupted run leaves no half of a file.
cat >"$file.new" <<EOF
# Secrets of this installation, made by init-env.sh. Keep a copy in a safe place and out of version control.

# PostgreSQL's password. Read once, when the database's volume is made.
POSTGRES_PASSWORD=$postgres_password

# The operator's key of the API: Authorization: Bearer ...
POSTRIDER_ADMIN_KEY=$admin_key

# Encrypts subscribers' secrets at rest. Without it a backup of the database is of no use.
# To replace it, put a new key and a comma in front (docs/operations.md, "The secret key").
POSTRIDER_SECRET_KEY=$secret_key

# Grafana's user is admin. Read once, when Grafana's volume is made.
GRAFANA_ADMIN_PASSWORD=$grafana_password

# Networks that targets may be in besides public ones, such as 10.1.2.0/24. Empty: none.
POSTRIDER_ALLOW_NETS=
EOF
mv "$file.new" "$file"
echo "init-env: wrote $file"
