// Many busy connections between two ends of npm's `ws`, every second one compressed with context takeover. Each client
// says something every few milliseconds, and the server answers each message. Each end keeps a log, which is written to
// standard output at the end. Usage: busy.mjs HOST PORT CONNECTIONS. Says "busy" once all talk; on SIGUSR2 notes how
// much was sent by then, lets each client send 300 messages more, and ends by itself.
import { createHash } from "node:crypto";
import { WebSocket, WebSocketServer } from "ws";

const [host, port, connections] = process.argv.slice(2);
const perMessageDeflate = { threshold: 0 };
const logs = new Map();

const server = new WebSocketServer({ host, port: Number(port), perMessageDeflate });
server.on("connection", (socket, request) => {
  const log = { compressed: socket.extensions !== "", sent: [0, 0], marks: null };
  log.client_to_server = [];
  log.server_to_client = [];
  logs.set(request.socket.remotePort, log);
  socket.on("message", (data) => {
    const text = data.toString();
    log.client_to_server.push(text);
    log.sent[1] += 1;
    // Not the same: the directions must not be mistaken for one another.
    socket.send([...text].reverse().join(""));
  });
});
await new Promise((resolve) => server.on("listening", resolve));

const clients = [];
for (let number = 0; number < Number(connections); number += 1) {
  const options = { perMessageDeflate: number % 2 === 1 ? perMessageDeflate : false };
  const socket = new WebSocket(`ws://${host}:${port}/`, options);
  await new Promise((resolve) => socket.on("open", resolve));
  const client = { socket, port: socket._socket.localPort };
  socket.on("message", (data) => logs.get(client.port).server_to_client.push(data.toString()));
  clients.push(client);
}

let left = Infinity;
process.once("SIGUSR2", () => {
  for (const log of logs.values()) {
    log.marks = [...log.sent];
  }
  // Signals come between two rounds, before the one that has passed is counted.
  left = 301;
});
const noise = (seed, length) => {
  let text = "";
  for (let part = 0; text.length < length; part += 1) {
    text += createHash("sha512").update(`${seed} ${part}`).digest("base64");
  }
  return text.slice(0, length);
};
const greek = (letter) => String.fromCodePoint(letter.codePointAt(0) + 0x350);
for (let round = 0; left > 0; round += 1, left -= 1) {
  for (const client of clients) {
    const seed = `${round} of ${client.port}`;
    // What each chat message copies from the one before is unknown for good, until something fills the window that
    // has nothing in common with it.
    const isChat = left <= 100 || left > 150;
    client.socket.send(
      isChat ? `{"type":"say","to_uid":"all","content":"${seed}: ${noise(seed, 200)}"}` : noise(seed, 2_000).replaceAll(/[a-z]/g, greek),
    );
    logs.get(client.port).sent[0] += 1;
  }
  if (round === 20) {
    console.error("busy");
  }
  await new Promise((resolve) => setTimeout(resolve, 20));
}
for (const client of clients) {
  const log = logs.get(client.port);
  while (log.server_to_client.length < log.sent[0]) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const closed = new Promise((resolve) => client.socket.on("close", resolve));
  client.socket.close(1000);
  await closed;
}
server.close();
console.log(JSON.stringify([...logs].map(([port, log]) => ({ port, ...log }))));
