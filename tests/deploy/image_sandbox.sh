# sh image_sandbox.sh FOLDER BASE WRITABLE USER COMMAND...: run COMMAND as in a read-only container.
# FOLDER has the image's tree, BASE is the Python it was built with. USER is `uid:gid`; if it is empty, namespaces cannot
# be used, and the command runs as the current user in WRITABLE.
set -eu
folder=$1 base=$2 writable=$3 user=$4
shift 4
if [ -z "$user" ]; then
  cd "$writable"
  exec "$@"
fi
if [ "${OUTLAST_SANDBOX-}" != entered ]; then
  export OUTLAST_SANDBOX=entered
  exec unshare --mount sh "$0" "$folder" "$base" "$writable" "$user" "$@"
fi
unset OUTLAST_SANDBOX
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/folder /mnt/python
mount --bind "$folder" /mnt/folder
mount --bind "$base" /mnt/python
mount -t tmpfs -o mode=1777 tmpfs /tmp
over=/mnt
for pair in "/mnt/folder $folder" "/mnt/python $base"; do
  from=${pair%% *} to=${pair#* }
  # If other users may not enter a parent folder, e.g. /root, mount a tmpfs over it in this namespace.
  closed=
  place=$(dirname "$to")
  while [ "$place" != / ]; do
    if [ -d "$place" ]; then case $(stat -c %A "$place") in *[xt]) ;; *) closed=$place ;; esac; fi
    place=$(dirname "$place")
  done
  if [ -n "$closed" ]; then
    mount -t tmpfs -o mode=755 tmpfs "$closed"
    over="$over $closed"
  fi
  mkdir -p "$to"
  mount --bind "$from" "$to"
  mount -o remount,bind,ro "$to"
done
umount /mnt/folder /mnt/python
for place in $over; do mount -o remount,ro "$place"; done
mount -t tmpfs -o mode=755 tmpfs /run
for place in / /run; do mount -o remount,bind,ro "$place"; done
cd /tmp
umask 022
exec setpriv --reuid="${user%:*}" --regid="${user#*:}" --clear-groups --no-new-privs --bounding-set=-all \
  --inh-caps=-all "$@"
