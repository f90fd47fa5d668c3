// A compressed conversation of JSON messages, as many in each direction, with a server of npm's `ws`: its client is
// Chromium, or `ws` itself. Usage: conversation.mjs HOST PORT COUNT chromium|ws. Writes the logs of both ends to standard
// output, and ends by itself. The page comes from the same port; its log goes to another one.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket, WebSocketServer, end, event, logged, logs, printLogs, start } from "./endpoints.mjs";
import { talk, texts } from "./talk.mjs";

const [host, port, count, client] = process.argv.slice(2);
// Context takeover and windows of 15 bits are what both ends do unless they are asked for something else.
const perMessageDeflate = { threshold: 0 };

const listening = async (server, port) => {
  server.listen(Number(port), host);
  await event(server, "listening");
  return server.address().port;
};

const reporting = createServer();
const report = new Promise((resolve) => {
  reporting.on("request", async (request, response) => {
    const parts = await request.toArray();
    response.end();
    resolve(JSON.parse(Buffer.concat(parts)));
  });
});
const reportPort = await listening(reporting, 0);

const PAGE = `<!doctype html><meta charset="utf-8"><title>conversation</title><link rel="icon" href="data:,">
<script type="module">
  import { talk } from "/talk.mjs";
  const socket = new WebSocket("ws://" + location.host + "/conversation");
  socket.onopen = async () => {
    const log = JSON.stringify(await talk(socket, ${Number(count)}));
    fetch("http://${host}:${reportPort}/", { method: "POST", mode: "no-cors", body: log });
  };
</script>`;

const web = createServer((request, response) => {
  if (request.url === "/") {
    response.setHeader("Content-Type", "text/html");
    response.end(PAGE);
  } else {
    response.setHeader("Content-Type", "text/javascript");
    response.end(readFileSync(new URL("./talk.mjs", import.meta.url)));
  }
});
const server = new WebSocketServer({ server: web, perMessageDeflate });
const answering = new Promise((resolve) => {
  server.on("connection", (socket) => {
    logged("server", socket);
    const answers = texts(2, Number(count));
    socket.on("message", () => socket.send(answers.next().value));
    socket.on("close", resolve);
  });
});
await listening(web, port);

const inChromium = async () => {
  const profile = mkdtempSync(join(tmpdir(), "chromium-"));
  const options = [
    ...["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
    ...["--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps"],
    ...["--no-proxy-server", `--user-data-dir=${profile}`],
  ];
  const environment = { ...process.env, TMPDIR: profile };
  const chromium = start(["chromium", ...options, `http://${host}:${port}/`], { env: environment });
  let said = "";
  chromium.stderr.on("data", (data) => (said += data));
  const failed = event(chromium, "close").then(() => Promise.reject(new Error(`Chromium ended: ${said}`)));
  const log = await Promise.race([report, failed]);
  await answering;
  await end(chromium, "SIGKILL");
  rmSync(profile, { recursive: true, force: true, maxRetries: 10 });
  return log;
};

if (client === "chromium") {
  const log = await inChromium();
  const { client, server } = logs[0];
  logs.push({ end: "client", client, server, ...log });
} else {
  const socket = logged("client", new WebSocket(`ws://${host}:${port}/conversation`, { perMessageDeflate }));
  await event(socket, "open");
  await talk(socket, Number(count));
  await answering;
}
printLogs();
for (const each of [web, reporting]) {
  each.close();
  each.closeAllConnections();
}
