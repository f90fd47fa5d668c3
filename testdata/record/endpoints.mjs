// What the scripts with npm's `ws` share: the package itself, and the logs of both ends, which they write to standard
// output as one line of JSON. The package is looked for in the directory that NODE_WS_DIR names, else beside this file.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const beside = process.env.NODE_WS_DIR ? `${process.env.NODE_WS_DIR}/` : import.meta.url;
export const { WebSocket, WebSocketServer } = createRequire(beside)("ws");

// One for each end of each connection.
export const logs = [];

export const printLogs = () => console.log(JSON.stringify(logs));

// A text is logged as a string, anything else with its bytes.
const entry = (data, isBinary) => (isBinary ? { base64: data.toString("base64") } : data.toString());

// Logs all that one end sends and receives; `end` is "client" or "server".
export const logged = (end, socket) => {
  const log = { end, client: "", server: "", extensions: "", sent: [], received: [], closed: [] };
  logs.push(log);
  const opened = () => {
    const { localAddress, localPort, remoteAddress, remotePort } = socket._socket;
    const [local, remote] = [`${localAddress}:${localPort}`, `${remoteAddress}:${remotePort}`];
    [log.client, log.server] = end === "client" ? [local, remote] : [remote, local];
    log.extensions = socket.extensions;
  };
  if (socket.readyState === WebSocket.OPEN) {
    opened();
  } else {
    socket.on("open", opened);
  }
  socket.on("message", (data, isBinary) => log.received.push(entry(data, isBinary)));
  socket.on("close", (code, reason) => (log.closed = [code, reason.toString()]));
  const send = socket.send.bind(socket);
  let parts = [];
  socket.send = (data, options = {}) => {
    parts.push(Buffer.from(data));
    if (options.fin !== false) {
      log.sent.push(entry(Buffer.concat(parts), typeof data !== "string"));
      parts = [];
    }
    send(data, options);
  };
  return socket;
};

export const event = (target, name) => new Promise((resolve) => target.once(name, resolve));

// Starts a program that ends with this process, however that ends.
export const start = (command, options) => spawn("setpriv", ["--pdeathsig", "KILL", ...command], options);

export const end = async (program, signal = "SIGTERM") => {
  const ended = event(program, "close");
  program.kill(signal);
  await ended;
};

// Waits until a program listens at a port. To try would be a connection that the recording has.
export const listens = async (program, port) => {
  const listener = new RegExp(`:${Number(port).toString(16).padStart(4, "0")} [0-9A-F]+:0000 0A`, "i");
  while (!["tcp", "tcp6"].some((file) => listener.test(readFileSync(`/proc/net/${file}`, "latin1")))) {
    if (program.exitCode !== null) {
      throw new Error(`${program.spawnargs.join(" ")} ended with ${program.exitCode}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};
