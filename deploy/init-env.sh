#!/bin/sh
# Creates deploy/.env with fresh secrets for compose.yaml. Never overwrites an existing file: with another
# POSTRIDER_SECRET_KEY, the stored secrets of all subscribers would be unreadable.
set -eu
umask 077

file=${1:-"$(dirname "$0")/.env"}

if [ -e "$file" ]; then
    echo "init-env: $file already exists; left unchanged" >&2
    exit 1
fi
if ! command -v openssl >/dev/null; then
    echo "init-env: openssl not found; install it to generate secrets" >&2
    exit 1
fi

# One statement each: a failure inside the here-document would leave an empty secret.
postgres_password=$(openssl rand -hex 24)
admin_key=$(openssl rand -hex 32)
secret_key=$(openssl rand -base64 32)
grafana_password=$(openssl rand -hex 12)

# Written to a temporary file and renamed, so that an interrupted run leaves no partial file.
cat >"$file.new" <<EOF
# Secrets of this installation, created by init-env.sh. Keep a copy in a safe place, outside version control.

# PostgreSQL's password. Read once, when the database's volume is created.
POSTGRES_PASSWORD=$postgres_password

# The operator's API key: Authorization: Bearer ...
POSTRIDER_ADMIN_KEY=$admin_key

# Encrypts subscribers' secrets at rest. A backup of the database is useless without it.
# To replace it, put a new key and a comma in front (docs/operations.md, "The secret key").
POSTRIDER_SECRET_KEY=$secret_key

# Password of Grafana's user admin. Read once, when Grafana's volume is created.
GRAFANA_ADMIN_PASSWORD=$grafana_password

# Networks that targets may be in, besides public ones, such as 10.1.2.0/24. Empty: none.
POSTRIDER_ALLOW_NETS=
EOF
mv "$file.new" "$file"
echo "init-env: wrote $file"
