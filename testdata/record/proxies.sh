#!/bin/sh
# Records ../captures/{nginx,refused,proxy-v1,proxy-v2,tls,http2,h2c}-lo.pcap and their ../tcpdump again. Needs root,
# tcpdump, Debian's nginx, haproxy, openssl, curl, chromium, nghttp2-proxy and nghttp2-client, node, a python3 with the
# package `websockets`, which PYTHON may name, and the bundled chat server, which CHAT_SERVER must name. Bless the
# golden files after.
set -eu
if [ "${1:-}" != inside ]; then
    exec unshare -n "$0" inside
fi
ip link set lo up
ip address add 203.0.113.7/32 dev lo
ip address add 198.51.100.1/32 dev lo
here=$(cd "$(dirname "$0")" && pwd)
captures=$here/../captures
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'stop_all; rm -rf "$work"' EXIT
running=

# start COMMAND…: ends with this script, or by stop_all.
start() {
    "$@" >>"$work/log" 2>&1 &
    running="$running $!"
    sleep 1
}

stop_all() {
    for process in $running; do
        kill "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
    running=
}

# capture NAME: until the next stop_all.
capture() {
    start tcpdump -U -i lo -w "$captures/$1.pcap" tcp port 7272
}

nginx_with() {
    cat >"$work/nginx.conf" <<CONF
daemon off; master_process off; pid $work/nginx.pid; error_log $work/log;
events {}
http {
    access_log off; client_body_temp_path $work; proxy_temp_path $work;
    fastcgi_temp_path $work; uwsgi_temp_path $work; scgi_temp_path $work;
    map \$http_upgrade \$connection_upgrade { default upgrade; '' ''; }
    $1
}
CONF
    start nginx -c "$work/nginx.conf"
}

haproxy_with() {
    printf 'defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 9s\n  timeout server 9s\n%s\n' "$1" >"$work/haproxy.cfg"
    start haproxy -db -f "$work/haproxy.cfg"
}

# nginx in front of the chat, as its manual says; its connections to the chat are kept and used again.
start "$CHAT_SERVER" --no-web --listen 127.0.0.1:7272
nginx_with 'upstream chat { server 127.0.0.1:7272; keepalive 4; }
    server {
        listen 198.51.100.1:8080;
        location / {
            proxy_pass http://chat; proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $host; proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }
    }'
capture nginx-lo
curl -s --interface 198.51.100.1 http://198.51.100.1:8080/page || true
"$python" "$here/proxied.py" /
"$python" "$here/proxied.py" / X-Forwarded-For=192.0.2.66 'Forwarded=for="[2001:db8::66]:4711"'
"$python" "$here/proxied.py" / Origin=https://evil.example
sleep 1
stop_all

# What nginx itself answers instead, one after the other on one connection, and then the chat behind it.
start "$CHAT_SERVER" --no-web --listen 127.0.0.1:7273
nginx_with 'server {
        listen 127.0.0.1:7272;
        location /moved { return 301 http://chat.example.org/elsewhere; }
        location /closed { return 403 "No entry.\n"; }
        location /old { add_header Sec-WebSocket-Version 13 always; add_header Upgrade websocket always; return 426; }
        location /bad { return 400; }
        location / {
            proxy_pass http://127.0.0.1:7273; proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $host;
        }
    }'
capture refused-lo
curl -s --max-time 2 -H 'Upgrade: websocket' -H 'Connection: Upgrade' -H 'Sec-WebSocket-Version: 13' \
    -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' \
    http://127.0.0.1:7272/moved http://127.0.0.1:7272/closed http://127.0.0.1:7272/old http://127.0.0.1:7272/none \
    http://127.0.0.1:7272/ || true
sleep 1
stop_all

# HAProxy speaks the PROXY protocol to another one, which is what is observed; the chat behind it does not.
for version in 1 2; do
    send='send-proxy check check-send-proxy'
    [ "$version" = 1 ] || send='send-proxy-v2 proxy-v2-options unique-id,crc32c check check-send-proxy'
    start "$CHAT_SERVER" --no-web --listen 127.0.0.1:7273
    haproxy_with '
listen observed
  bind 127.0.0.1:7272 accept-proxy
  server chat 127.0.0.1:7273'
    capture "proxy-v$version-lo"
    # Which checks first whether the other one is there.
    haproxy_with "
listen front
  bind 198.51.100.1:8080
  unique-id-format %[uuid()]
  server behind 127.0.0.1:7272 $send inter 30s"
    sleep 1
    "$python" "$here/proxied.py" / X-Forwarded-For=192.0.2.66
    sleep 1
    stop_all
done

# TLS: openssl's server, and as clients openssl, curl and Chromium, whose first message is longer than an Ethernet segment.
ip link set lo mtu 1500 gso_max_segs 1
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=chat.example.org \
    -keyout "$work/key" -out "$work/certificate" 2>/dev/null
cd "$work"
start openssl s_server -accept 127.0.0.1:7272 -key "$work/key" -cert "$work/certificate" -WWW -quiet
capture tls-lo
echo | openssl s_client -connect 127.0.0.1:7272 -servername chat.example.org -alpn http/1.1 >/dev/null 2>&1 || true
curl -sk --max-time 2 https://127.0.0.1:7272/none >/dev/null || true
timeout 20 chromium --headless --no-sandbox --disable-gpu --user-data-dir="$work/chromium" --ignore-certificate-errors \
    --host-resolver-rules='MAP chat.example.org 127.0.0.1' --dump-dom https://chat.example.org:7272/none >/dev/null 2>&1 || true
sleep 1
stop_all

# WebSocket over HTTP/2: HAProxy lets clients ask for it, and speaks HTTP/1.1 with the chat behind it.
start "$CHAT_SERVER" --no-web --listen 127.0.0.1:7273
haproxy_with "
listen observed
  mode http
  bind 127.0.0.1:7272 proto h2
  server chat 127.0.0.1:7273"
capture http2-lo
timeout 5 node "$here/http2.mjs" 7272 || true
curl -s --max-time 2 --http2-prior-knowledge http://127.0.0.1:7272/page || true
sleep 1
stop_all

# An upgrade to h2c, which nghttpx still takes.
start "$CHAT_SERVER" --no-web --listen 127.0.0.1:7273
start nghttpx --no-ocsp --frontend='127.0.0.1,7272;no-tls' --backend=127.0.0.1,7273 --workers=1
capture h2c-lo
timeout 5 nghttp --upgrade --no-dep http://127.0.0.1:7272/page || true
sleep 1
stop_all

for name in nginx refused proxy-v1 proxy-v2 tls http2 h2c; do
    chmod 644 "$captures/$name-lo.pcap"
    for option in '' -X -A; do
        TZ=UTC tcpdump -n $option -r "$captures/$name-lo.pcap" 2>/dev/null >"$here/../tcpdump/$name-lo${option}.txt"
    done
done
