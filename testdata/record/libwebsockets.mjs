// libwebsockets' test server with clients of npm's `ws`, then its test client with a server of `ws`. Usage:
// libwebsockets.mjs HOST PORT SERVER-PORT: the test server is at PORT, that of `ws` at SERVER-PORT. Writes the logs of
// the ends that are `ws` to standard output, and ends by itself. Debian's package is libwebsockets-test-server.
import { WebSocket, WebSocketServer, end, event, listens, logged, printLogs, start } from "./endpoints.mjs";

const [host, port, serverPort] = process.argv.slice(2);

const testServer = start(["libwebsockets-test-server", `--port=${port}`], { stdio: "ignore" });
await listens(testServer, port);

const converse = async (protocol, perMessageDeflate, act) => {
  const client = logged("client", new WebSocket(`ws://${host}:${port}/`, protocol, { perMessageDeflate }));
  // Some of its protocols speak first.
  await Promise.all([event(client, "open"), act(client)]);
  const closed = event(client, "close");
  client.close(1000, "bye");
  await closed;
};
const opened = (client) => event(client, "open");

// It sends back what it gets, a frame a message.
await converse("lws-mirror-protocol", false, async (client) => {
  await opened(client);
  for (const text of ["d #ff0000 1 2 3 4;", "猪猪", "x".repeat(200)]) {
    const mirrored = event(client, "message");
    client.send(text);
    await mirrored;
  }
  const pong = event(client, "pong");
  client.ping("still there?");
  await pong;
});
// It sends numbers, and begins anew when it is told to.
await converse("dumb-increment-protocol", false, async (client) => {
  for (let received = 0; received < 5; received += 1) {
    await event(client, "message");
  }
  client.send("reset\n");
  await event(client, "message");
});
// It tells its state, compressed.
await converse("lws-status", { threshold: 0 }, async (client) => {
  await event(client, "message");
  for (const text of ["compressed and ignored", "compressed and ignored", ""]) {
    client.send(text);
  }
  const pong = event(client, "pong");
  client.ping();
  await pong;
});
await end(testServer);

const server = new WebSocketServer({
  ...{ host, port: Number(serverPort), perMessageDeflate: { threshold: 0 } },
  handleProtocols: (protocols) => [...protocols][0],
});
const enough = new Promise((resolve) => {
  let received = 0;
  server.on("connection", (socket) => {
    logged("server", socket).send(`welcome to ${socket.protocol}`);
    socket.on("message", () => {
      received += 1;
      if (received < 6) {
        socket.send(`${received} so far, ${socket.protocol}`);
      } else if (received === 6) {
        resolve();
      }
    });
  });
});
await event(server, "listening");
const testClient = start(["libwebsockets-test-client", host, `--port=${serverPort}`], { stdio: "ignore" });
await enough;
// It would come again.
server.close();
await Promise.all(
  [...server.clients].map((socket) => {
    const closed = event(socket, "close");
    socket.close(1001, "enough");
    return closed;
  }),
);
await end(testClient);
printLogs();
