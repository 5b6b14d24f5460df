# Unpacks PgBouncer and libraries of a release of Debian into a folder, without installing anything, and writes the script
# `pgbouncer` that runs it with them.
#
# $1 the folder, $2 the release, $3 … the packages. The mirror is the one of this machine.
set -eu
folder=$1 release=$2
shift 2
mirror=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' 2>/dev/null |
    sed -n '/security/d; s/ main$//p' | head -n 1)
if [ -z "$mirror" ]; then
    apt-get --quiet --quiet update
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' | sed -n '/security/d; s/ main$//p' | head -n 1)
fi
rm -rf "$folder"
mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial" "$folder/packages" "$folder/root"
key=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$key] $mirror $release main" >"$folder/sources.list"
get() {
    apt-get --quiet --quiet -o Dir::Etc::SourceList="$folder/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State::Lists="$folder/lists" -o Dir::Cache="$folder/cache" -o APT::Sandbox::User=root \
        -o Acquire::Retries=0 -o Acquire::http::Timeout=30 "$@"
}
get update
cd "$folder/packages"
get download "$@"
for package in *.deb; do dpkg-deb --extract "$package" "$folder/root"; done
cd /
rm -rf "$folder/lists" "$folder/cache" "$folder/packages"
root=$folder/root
triplet=$(cd /usr/lib && echo *-linux-gnu | cut -d ' ' -f 1)
libraries=$root/usr/lib/$triplet:$root/lib/$triplet:/usr/lib/$triplet
# The release's own loader, if it brings its own C library.
loader=$(find "$root" -name 'ld-linux*.so*' | head -n 1)
cat >"$folder/pgbouncer.new" <<END
#!/bin/sh
LD_LIBRARY_PATH=$libraries exec $loader $root/usr/sbin/pgbouncer "\$@"
END
chmod +x "$folder/pgbouncer.new"
"$folder/pgbouncer.new" --version
mv "$folder/pgbouncer.new" "$folder/pgbouncer"
