// Conversations of npm's `ws` with nginx in between. Usage: nginx.mjs HOST PORT SERVER-PORT [long]: clients connect to
// nginx at PORT, and nginx to the server at SERVER-PORT; NGINX_BIN may name the program. Writes the logs of both ends to
// standard output, and ends by itself.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket, WebSocketServer, end, event, listens, logged, printLogs, start } from "./endpoints.mjs";

const [host, port, serverPort, length] = process.argv.slice(2);

const directory = mkdtempSync(join(tmpdir(), "nginx-"));
mkdirSync(join(directory, "temporary"));
const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((of) => `${of}_temp_path temporary;`);
writeFileSync(join(directory, "nginx.conf"), `
  daemon off; master_process off; pid nginx.pid; error_log stderr warn;
  events {}
  http {
    access_log off; ${temporary.join(" ")}
    server {
      listen ${host}:${port};
      location / {
        proxy_pass http://${host}:${serverPort};
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection upgrade;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      }
      location /elsewhere { return 404 "nothing here\\n"; }
    }
  }
`);

const server = new WebSocketServer({ host, port: Number(serverPort), perMessageDeflate: { threshold: 0 } });
server.on("connection", (socket) => {
  logged("server", socket);
  socket.on("message", (data, isBinary) => socket.send(isBinary ? data : data.toString().toUpperCase()));
});
await event(server, "listening");

const nginx = start(
  [process.env.NGINX_BIN ?? "/usr/sbin/nginx", "-e", "stderr", "-p", directory, "-c", "nginx.conf"],
  { stdio: ["ignore", "ignore", "inherit"] },
);
await listens(nginx, port);

// A request that is no upgrade; the answer is nginx's own.
await new Promise((resolve) => {
  get(`http://${host}:${port}/elsewhere`, { agent: false }, (answer) => answer.resume().on("end", resolve));
});

// A list is a message in fragments.
const converse = async (path, perMessageDeflate, messages) => {
  const client = logged("client", new WebSocket(`ws://${host}:${port}${path}`, { perMessageDeflate }));
  await event(client, "open");
  for (const message of messages) {
    const answered = event(client, "message");
    const parts = Array.isArray(message) ? message : [message];
    parts.forEach((part, index) => client.send(part, { fin: index === parts.length - 1 }));
    await answered;
  }
  const closed = event(client, "close");
  client.close(4000, "through nginx");
  await closed;
};
const long = length === "long" ? [`long ${"0123456789".repeat(30_000)}`] : [];
const binary = Buffer.from([0, 1, 255]);
await converse("/plain", false, ["hello", "", "猪猪", binary, ["frag", "men", "ted"], "x".repeat(130), ...long]);
await converse("/deflate", { threshold: 0 }, ["hello hello hello", "hello again", "", "猪猪猪猪", "hello hello hello", ...long]);

server.close();
await end(nginx);
rmSync(directory, { recursive: true, force: true });
printLogs();
