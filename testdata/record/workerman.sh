#!/bin/sh
# Records ../captures/workerman-2014-08.pcap, -2014-09 and -2015-11 again: workerman-chat itself. Needs root, tcpdump, git,
# php-cli with pcntl, and a python3 with the package `websockets`, which PYTHON may name.
# Usage: workerman.sh CLONE, of https://github.com/walkor/workerman-chat: these commits have all that they need.
set -eu
clone=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
dialect=${2:-}
if [ -z "$dialect" ]; then
    # In network and process namespaces of its own: nobody else's packets get in, and the server's processes end with it.
    for dialect in 2014-08 2014-09 2015-11; do
        unshare -n -p -f --mount-proc --kill-child "$0" "$clone" "$dialect"
    done
    exit
fi
ip link set lo up
case $dialect in
2014-08) commit=2cf0031 && within=workerman/bin && program=workermand ;;
2014-09) commit=28adf33 && within=. && program=start.php ;;
2015-11) commit=1c06e3f && within=. && program=start.php ;;
esac
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
git -C "$clone" archive "$commit" | tar x -C "$directory"
if [ "$dialect" = 2014-08 ]; then
    # It listened on port 80, and names a parameter twice, which is an error since PHP 7.
    sed -i 's/0\.0\.0\.0:80$/0.0.0.0:7272/' "$directory/workerman/conf/conf.d/Gateway.conf"
    sed -i 's/\$null = null, \$null = null/$null = null, $other = null/' "$directory/workerman/Core/SocketWorker.php"
    (cd "$directory/workerman/conf/conf.d" && rm -f Statistic* Monitor.conf FileMonitor.conf ChatWeb.conf)
fi
# They use what PHP has declared deprecated since.
(cd "$directory/$within" && exec php -d error_reporting=0 "$program" start) >"$directory/log" 2>&1 &
sleep 4
file=$here/../captures/workerman-$dialect.pcap
tcpdump -i lo -U -w "$file" tcp port 7272 2>/dev/null &
capture=$!
sleep 1
"${PYTHON:-python3}" "$here/workerman.py" "$dialect"
sleep 1
kill -INT "$capture"
wait "$capture" || true
chmod 644 "$file"
chown root:root "$file"
