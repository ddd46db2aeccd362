# Surroundings of an installation that leave no trace: everything it writes to is laid over, for these processes alone.
# Takes BASE (a Python), PACKAGES (what `pip install` would bring), STAND_IN (systemctl.py) and UNIT_LOGS.
set -eu
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/etc /mnt/bin /mnt/python /mnt/packages
cp -a /etc/. /mnt/etc/
mount --bind "$PACKAGES" /mnt/packages
mount --bind "$BASE" /mnt/python
# Where others may not go, as below /root, a Python is of no use to a unit's user: open the way, for us alone.
place=$BASE
closed=
while [ "$place" != / ]; do
  case $(stat -c %A "$place") in *[xt]) ;; *) closed=$place ;; esac
  place=$(dirname "$place")
done
if [ -n "$closed" ]; then
  mount -t tmpfs -o mode=755 tmpfs "$closed"
  mkdir -p "$BASE"
  mount --bind /mnt/python "$BASE"
fi
cp "$STAND_IN" /mnt/bin/systemctl.py
printf '#!/bin/sh\nexec "%s/bin/python3" /mnt/bin/systemctl.py "$@"\n' "$BASE" >/mnt/bin/systemctl
# Packages are not brought anew, which takes a minute: pip finds each there, and sees to its version.
cat >/mnt/bin/python3 <<END
#!/bin/sh
set -e
"$BASE/bin/python3" "\$@"
[ "\$1 \$2" = '-m venv' ] || exit 0
for site in "\$3"/lib/python3*/site-packages; do echo /mnt/packages >"\$site/there.pth"; done
END
chmod 755 /mnt/bin/systemctl /mnt/bin/python3
mount --bind /mnt/etc /etc
for place in /opt /var/lib /var/cache; do mount -t tmpfs -o mode=755 tmpfs "$place"; done
if ! [ -d "$BASE" ]; then  # it lay there
  mkdir -p "$BASE"
  mount --bind /mnt/python "$BASE"
fi
export PATH="/mnt/bin:$PATH"
umask 022
