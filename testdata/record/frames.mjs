// Kinds of frames between two ends of npm's `ws`: fragments, control frames between them, binary, an empty message,
// hostile text, a long message, a subprotocol, and a close with a reason. Usage: frames.mjs HOST [PORT]. Ends by itself.
import { WebSocket, WebSocketServer } from "ws";

const host = process.argv[2];
const port = Number(process.argv[3] ?? 7272);
const server = new WebSocketServer({ host, port, handleProtocols: () => "chat.v2" });
server.on("connection", (socket) => {
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
});

await new Promise((resolve) => server.on("listening", resolve));
const url = `ws://${host.includes(":") ? `[${host}]` : host}:${port}/echo?room_id=1`;
const client = new WebSocket(url, ["chat.v1", "chat.v2"], { perMessageDeflate: false });
await new Promise((resolve) => client.on("open", resolve));

const reply = () => new Promise((resolve) => client.once("message", resolve));
const say = async (data, options) => {
  const answered = reply();
  client.send(data, options);
  await answered;
};

await say("plain");
await say("");
await say(Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)));
await say("\x1b[2J\x1b]52;c;AAAA\x07 \u202eoverride\u202c\nline\u0085\u2028 <img src=x onerror=alert(1)>");
await say("x".repeat(1_000));

const answered = reply();
client.send("frag", { fin: false });
client.send("men", { fin: false });
const pong = new Promise((resolve) => client.once("pong", resolve));
client.ping("between");
await pong;
client.send("ted", { fin: true });
await answered;

const closed = new Promise((resolve) => client.on("close", resolve));
client.close(4001, "enough for today");
await closed;
server.close();
