# Prepares an installation that leaves no trace: mounts a tmpfs over every folder it writes to, in this namespace only.
# Variables: BASE (a Python), PACKAGES (the installed packages), SYSTEMCTL (systemctl.py) and UNIT_LOGS.
set -eu
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/etc /mnt/bin /mnt/python /mnt/packages
cp -a /etc/. /mnt/etc/
mount --bind "$PACKAGES" /mnt/packages
mount --bind "$BASE" /mnt/python
# If other users may not enter BASE, e.g. below /root, a unit's user could not run that Python: mount it elsewhere.
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
cp "$SYSTEMCTL" /mnt/bin/systemctl.py
printf '#!/bin/sh\nexec "%s/bin/python3" /mnt/bin/systemctl.py "$@"\n' "$BASE" >/mnt/bin/systemctl
# Packages are not installed again, which takes a minute: pip finds them in PACKAGES and checks their versions. Nor is
# pip, which takes five seconds of processor time: the one in PACKAGES is used.
cat >/mnt/bin/python3 <<END
#!/bin/sh
set -e
[ "\$1 \$2" = '-m venv' ] || exec "$BASE/bin/python3" "\$@"
"$BASE/bin/python3" -m venv --without-pip "\$3"
for site in "\$3"/lib/python3*/site-packages; do echo /mnt/packages >"\$site/packages.pth"; done
printf '#!/bin/sh\nexec "%s/bin/python3" -m pip "\$@"\n' "\$3" >"\$3/bin/pip"
chmod 755 "\$3/bin/pip"
END
chmod 755 /mnt/bin/systemctl /mnt/bin/python3
mount --bind /mnt/etc /etc
for place in /opt /var/lib /var/cache; do mount -t tmpfs -o mode=755 tmpfs "$place"; done
if ! [ -d "$BASE" ]; then  # BASE was below one of these folders
  mkdir -p "$BASE"
  mount --bind /mnt/python "$BASE"
fi
export PATH="/mnt/bin:$PATH"
umask 022
