// A long compressed conversation between two ends of npm's `ws`, with context takeover: short messages like a chat's,
// empty ones, uncompressed ones between them, fragments with a ping inside, and text that hardly compresses. Each end
// keeps a log, which is written to standard output at the end. Usage: deflate.mjs HOST PORT [wait]. With `wait` it
// says "half way" after 200 messages and goes on once it gets SIGUSR2. Ends by itself.
import { createHash } from "node:crypto";
import { WebSocket, WebSocketServer } from "ws";

const [host, port, wait] = process.argv.slice(2);
const perMessageDeflate = { threshold: 0, zlibDeflateOptions: { level: 9 } };
const log = { extensions: "", client_to_server: [], server_to_client: [] };

const server = new WebSocketServer({ host, port: Number(port), perMessageDeflate });
server.on("connection", (socket) => {
  socket.on("message", (data) => {
    const text = data.toString();
    log.client_to_server.push(text);
    // Not the same: the directions must not be mistaken for one another.
    socket.send(text.toUpperCase());
  });
});
await new Promise((resolve) => server.on("listening", resolve));
const client = new WebSocket(`ws://${host}:${port}/`, { perMessageDeflate: { ...perMessageDeflate } });
await new Promise((resolve) => client.on("open", resolve));
log.extensions = client.extensions;

const noise = (seed, length) => {
  let text = "";
  for (let part = 0; text.length < length; part += 1) {
    text += createHash("sha256").update(`${seed} ${part}`).digest("base64");
  }
  return text.slice(0, length);
};

const say = async (number) => {
  const answered = new Promise((resolve) => client.once("message", resolve));
  const chat = `{"type":"say","to_uid":"all","content":"message ${number}: ${noise(number, number % 30)} 猪"}`;
  if (number >= 500 && number < 540) {
    client.send(noise(number, 2_000));
  } else if (number % 50 === 3) {
    client.send("");
  } else if (number % 7 === 0) {
    client.send(chat, { compress: false });
  } else if (number % 10 === 1) {
    client.send(chat.slice(0, 20), { fin: false });
    client.send(chat.slice(20, 30), { fin: false });
    client.ping("between");
    client.send(chat.slice(30), { fin: true });
  } else {
    client.send(chat);
  }
  log.server_to_client.push((await answered).toString());
};

for (let number = 0; number < 1_000; number += 1) {
  if (wait && number === 200) {
    const goOn = new Promise((resolve) => process.once("SIGUSR2", resolve));
    // A handler does not keep the process alive.
    const alive = setInterval(() => {}, 1_000);
    console.error("half way");
    await goOn;
    clearInterval(alive);
  }
  await say(number);
}

const closed = new Promise((resolve) => client.on("close", resolve));
client.close(1000);
await closed;
server.close();
console.log(JSON.stringify(log));
