#!/bin/sh
# Records ../captures again, with ../logs and ../tcpdump: all of them, or those that are named. Run by `cargo xtask record
# [NAME…]`, which has what this needs and names it in variables. The bytes differ each time: bless the golden files after.
set -eu
# In a network namespace of its own, so that nobody else's packets get in.
if [ "${RECORDING:-}" != here ]; then
    RECORDING=here exec unshare -n "$0" "$@"
fi
ip link set lo up
here=$(cd "$(dirname "$0")" && pwd)
captures=$here/../captures
logs=$here/../logs
mkdir -p "$logs"
names=$*
known=

is_wanted() {
    known="$known $1"
    [ -z "$names" ] && return
    for name in $names; do
        [ "$name" = "$1" ] && return
    done
    return 1
}

# record NAME "TCPDUMP-OPTION…" COMMAND…: what the command writes is the log of the ends.
record() {
    name=$1
    options=$2
    shift 2
    is_wanted "$name" || return 0
    # shellcheck disable=SC2086
    tcpdump -U -Z root -w "$captures/$name.pcap" $options 'tcp port 7272 or tcp port 7273' 2>/dev/null &
    capture=$!
    sleep 1
    "$@" >"$logs/$name.json"
    [ -s "$logs/$name.json" ] || rm "$logs/$name.json"
    # The kernel gives tcpdump what it has once a second.
    sleep 2
    kill -INT "$capture"
    wait "$capture" || true
    chmod 644 "$captures/$name.pcap"
}

cp "$here/frames.mjs" "$NODE_WS_DIR/frames.mjs"
record chat-lo-ipv4 '-i lo' "$PYTHON_WEBSOCKETS" "$here/chat.py" 127.0.0.1
record chat-any-ipv6 '-i any --nano' "$PYTHON_WEBSOCKETS" "$here/chat.py" ::1
record chat-deflate '-i lo' "$PYTHON_WEBSOCKETS" "$here/chat.py" 127.0.0.1 --deflate
record frames-any-ipv4 '-i any' node "$NODE_WS_DIR/frames.mjs" 127.0.0.1
record frames-snaplen-200 '-i lo -s 200' node "$NODE_WS_DIR/frames.mjs" 127.0.0.1
rm "$NODE_WS_DIR/frames.mjs"
record chromium '-i lo' node "$here/conversation.mjs" 127.0.0.1 7272 20 chromium
record nginx '-i lo' node "$here/nginx.mjs" 127.0.0.1 7272 7273
record libwebsockets '-i lo' node "$here/libwebsockets.mjs" 127.0.0.1 7272 7273
record autobahn '-i lo' "$PYTHON_AUTOBAHN" "$here/both_autobahn.py" 127.0.0.1 7272

# Linux's own libpcap names interfaces only in pcapng, which dumpcap writes.
if is_wanted chat-lo-and-any; then
    dumpcap -q -f 'tcp port 7272' -i lo -i any -w "$captures/chat-lo-and-any.pcapng" 2>/dev/null &
    capture=$!
    sleep 2
    "$PYTHON_WEBSOCKETS" "$here/chat.py" 127.0.0.1
    sleep 2
    kill -INT "$capture"
    wait "$capture" || true
    chmod 644 "$captures/chat-lo-and-any.pcapng"
fi

if is_wanted options; then
    python3 "$here/options.py"
fi

for name in $names; do
    case "$known " in
    *" $name "*) ;;
    *)
        echo "there is no recording $name; there are$known" >&2
        exit 1
        ;;
    esac
done

# What tcpdump says of each, for --packets, -X and -A; of those with logs only the packets, since that is long.
for file in "$captures"/*.pcap; do
    name=$(basename "$file" .pcap)
    if is_wanted "$name"; then
        for option in '' -X -A; do
            [ -n "$option" ] && [ -e "$logs/$name.json" ] && continue
            TZ=UTC tcpdump -n $option -r "$file" 2>/dev/null >"$here/../tcpdump/$name${option}.txt"
        done
    fi
done
