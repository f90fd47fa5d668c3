// A long conversation of varied JSON, for a page in a browser and for npm's `ws`, whose sockets have the same interface.

const NAMES = ["mynick", "猪猪", "Zoë", "محمد", "🐖", "e\u0301", "\u202eright to left", "quote\"back\\slash", "\u0000\u007f"];

// The same numbers for the same seed, from 0 up to but not including 1.
const randomNumbers = (seed) => () => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  return seed / 2 ** 32;
};

// Messages as applications send them: short ones that repeat earlier ones, others that hardly do, lists, long and empty ones.
export function* texts(seed, count) {
  const random = randomNumbers(seed);
  const integer = (below) => Math.floor(random() * below);
  const name = () => NAMES[integer(NAMES.length)];
  const noise = (length) => Array.from({ length }, () => integer(36).toString(36)).join("");
  const kinds = [
    () => ({ type: "say", from: name(), to: name(), content: `hi ${noise(integer(40))} ${name()} !` }),
    () => ({ type: "users", users: Array.from({ length: integer(30) }, (_, uid) => ({ uid, name: name() })) }),
    () => ({ type: "position", x: random() * 1e6, y: -random(), at: 1.7e12 + integer(1e9), tags: [name(), null, true] }),
    () => ({ type: "key", key: noise(200 + integer(600)) }),
    () => ({ type: "deep", a: { b: { c: { d: [[[name()], [integer(9)]], {}] } } } }),
  ];
  for (let number = 0; number < count; number += 1) {
    if (number % 97 === 13) {
      yield "";
    } else if (number % 150 === 149) {
      // Also what does not fit into a segment, a length of 16 bits, or a window.
      yield JSON.stringify({ type: "long", number, text: name().repeat(9_000), noise: noise(1 << (10 + integer(8))) });
    } else {
      yield JSON.stringify({ number, ...kinds[integer(kinds.length)]() });
    }
  }
}

// The client's part: several messages at a time, each of which the server answers with one of its own. Returns its log.
export const talk = async (socket, count) => {
  const log = { extensions: socket.extensions, sent: [], received: [] };
  let arrived = () => {};
  socket.onmessage = ({ data }) => {
    log.received.push(data);
    arrived();
  };
  for (const text of texts(1, count)) {
    log.sent.push(text);
    socket.send(text);
    while (log.sent.length % 16 === 0 && log.received.length < log.sent.length) {
      await new Promise((resolve) => (arrived = resolve));
    }
  }
  while (log.received.length < count) {
    await new Promise((resolve) => (arrived = resolve));
  }
  const closed = new Promise((resolve) => (socket.onclose = resolve));
  socket.close(1000, "that was all");
  await closed;
  return log;
};
