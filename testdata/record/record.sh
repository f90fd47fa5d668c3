#!/bin/sh
# Records ../captures and ../tcpdump again. Needs root, tcpdump, dumpcap, node with `npm install ws` done in this directory, and a python3
# with the package `websockets`, which PYTHON may name. The bytes differ each time: bless the golden files after.
set -eu
# In a network namespace of its own, so that nobody else's packets get in.
if [ "${1:-}" != inside ]; then
    exec unshare -n "$0" inside
fi
ip link set lo up
here=$(cd "$(dirname "$0")" && pwd)
captures=$here/../captures
python=${PYTHON:-python3}

# record FILE COMMAND… -- TCPDUMP OPTION…
record() {
    file=$captures/$1
    command=$2
    shift 2
    tcpdump -U -w "$file" "$@" tcp port 7272 2>/dev/null &
    capture=$!
    sleep 1
    sh -c "$command"
    sleep 1
    kill -INT "$capture"
    wait "$capture" || true
    chmod 644 "$file"
}

record chat-lo-ipv4.pcap "'$python' '$here/chat.py' 127.0.0.1" -i lo
record chat-any-ipv6.pcap "'$python' '$here/chat.py' ::1" -i any --nano
record chat-deflate.pcap "'$python' '$here/chat.py' 127.0.0.1 --deflate" -i lo
record frames-any-ipv4.pcap "node '$here/frames.mjs' 127.0.0.1" -i any
record frames-snaplen-200.pcap "node '$here/frames.mjs' 127.0.0.1" -i lo -s 200

# Linux's own libpcap names interfaces only in pcapng, which dumpcap writes.
dumpcap -q -f 'tcp port 7272' -i lo -i any -w "$captures/chat-lo-and-any.pcapng" 2>/dev/null &
capture=$!
sleep 2
"$python" "$here/chat.py" 127.0.0.1
sleep 2
kill -INT "$capture"
wait "$capture" || true
chmod 644 "$captures/chat-lo-and-any.pcapng"

# What tcpdump says of each, for --packets, -X and -A.
"$python" "$here/options.py"
for file in "$captures"/*.pcap; do
    name=$(basename "$file" .pcap)
    for option in '' -X -A; do
        TZ=UTC tcpdump -n $option -r "$file" 2>/dev/null >"$here/../tcpdump/$name${option}.txt"
    done
done
