// A client of npm's ws that sends everything back, for each case of the Autobahn testsuite's server.
const { WebSocket } = require("ws");

const [base] = process.argv.slice(-1);

/** Connects, sends back what comes if `echoes`, and resolves to the last message once the connection is closed. */
function connection(path, echoes) {
  return new Promise((resolve) => {
    let last;
    const socket = new WebSocket(base + path);
    socket.on("message", (data, isBinary) => {
      last = data.toString();
      if (echoes) socket.send(data, { binary: isBinary });
    });
    // What the suite does wrong is an error here, and closes the connection.
    socket.on("error", () => {});
    socket.on("close", () => resolve(last));
  });
}

async function main() {
  const count = Number(await connection("/getCaseCount", false));
  for (let number = 1; number <= count; number += 1) {
    await connection(`/runCase?case=${number}&agent=ws`, true);
  }
  await connection("/updateReports?agent=ws", false);
}

main();
