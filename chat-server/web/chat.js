// Owns what the page does: it keeps one connection to the chat, shows what is said, and sends what is typed.
//
// Must not know how anything looks, and never makes markup of what somebody sent: all text goes through textContent.
// Bounded by MOST_LINES, MOST_CHARACTERS and MOST_USERS, whatever the server sends. The protocol is described in the
// server's src/lib.rs.

const MOST_LINES = 1000;
const MOST_CHARACTERS = 1_000_000;
const MOST_USERS = 500;
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 30_000;
const PATIENCE_MS = 10_000;
const HUES = 8;
const STORED_NAME = 'chat.name';

const TEXTS = {
  en: {
    title: 'Chat',
    room: 'room {room}',
    nameLabel: 'Your nickname',
    join: 'Join',
    leave: 'Leave',
    retry: 'Reconnect now',
    idle: 'Not connected',
    connecting: 'Connecting…',
    connected: 'Connected as {name}',
    waiting: 'No connection, reconnecting',
    offline: 'This device is offline, reconnecting',
    countdown: 'in {seconds} s',
    sendTo: 'Send to',
    count: '({count} here)',
    everyone: 'Everyone',
    you: '(you)',
    left: '(has left)',
    moreUsers: 'and {count} more',
    conversation: 'Conversation',
    newest: '↓ Newest messages',
    toEveryone: 'Message to everyone',
    toUser: 'Private message to {name}',
    send: 'Send',
    hint: 'Enter sends, Shift+Enter starts a new line, Escape writes to everyone again.',
    privateFrom: 'privately to you',
    privateTo: 'privately to {name}',
    entered: 'You are in the chat as {name}.',
    enteredAgain: 'Connected again, as {name}.',
    joined: '{name} has joined.',
    gone: '{name} has left.',
    lost: 'The connection is lost.',
    lostBecause: 'The server has closed the connection: {reason}.',
    notSent: 'Not connected, so nothing was sent. Your text is kept.',
    recipientGone: '{name} has left. Choose who shall get this.',
    tooLong: 'This message is too long: {bytes} bytes, and {most} are allowed.',
    refused: 'The server says: {message}',
    error_name_empty: 'Give yourself a name.',
    error_name_too_long: 'This name is too long.',
    error_room_id_too_long: 'The name of this room is too long.',
    error_message_too_long: 'The message was too long and has not been sent.',
    error_unknown_uid: 'Your private message was not delivered: its recipient has left.',
  },
  zh: {
    title: '聊天室',
    room: '房间 {room}',
    nameLabel: '你的昵称',
    join: '进入',
    leave: '离开',
    retry: '立即重连',
    idle: '未连接',
    connecting: '正在连接……',
    connected: '已连接，昵称 {name}',
    waiting: '没有连接，准备重连',
    offline: '设备处于离线状态，准备重连',
    countdown: '{seconds} 秒后',
    sendTo: '发送给',
    count: '（{count} 人在线）',
    everyone: '所有人',
    you: '（你）',
    left: '（已离开）',
    moreUsers: '另有 {count} 人',
    conversation: '聊天内容',
    newest: '↓ 最新消息',
    toEveryone: '发给所有人的消息',
    toUser: '发给 {name} 的私聊消息',
    send: '发送',
    hint: 'Enter 发送，Shift+Enter 换行，Esc 恢复为发给所有人。',
    privateFrom: '私聊，发给你',
    privateTo: '私聊，发给 {name}',
    entered: '你已进入聊天室，昵称 {name}。',
    enteredAgain: '已重新连接，昵称 {name}。',
    joined: '{name} 进入了聊天室。',
    gone: '{name} 离开了聊天室。',
    lost: '连接已断开。',
    lostBecause: '服务器关闭了连接：{reason}。',
    notSent: '未连接，消息没有发送，内容已保留。',
    recipientGone: '{name} 已离开，请重新选择接收者。',
    tooLong: '消息太长：{bytes} 字节，最多 {most} 字节。',
    refused: '服务器提示：{message}',
    error_name_empty: '请填写昵称。',
    error_name_too_long: '昵称太长。',
    error_room_id_too_long: '房间名太长。',
    error_message_too_long: '消息太长，没有发送。',
    error_unknown_uid: '私聊消息没有送达：对方已离开。',
  },
};

const language = navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en';
const texts = TEXTS[language];
const settings = document.documentElement.dataset;
const maxMessageBytes = Number(settings.maxMessageBytes);
const maxSilenceMs = Number(settings.maxSilenceMs);
const room = new URLSearchParams(location.search).get('room_id');
const element = (id) => document.getElementById(id);

/** The name under which the user wants to be in the chat; null while they do not. */
let wantedName = null;
let socket = null;
/** Our uid while we are in. */
let ownUid = null;
/** Whether the next login that the server tells of is ours: the one behind the user list. */
let expectsOwnLogin = false;
let hasBeenIn = false;
let failures = 0;
let retryTimer;
let countdownTimer;
let silenceTimer;

/** uid → name of those who are in. */
const users = new Map();
/** uid → the element in the list, for the first MOST_USERS of them. */
const userElements = new Map();
/** Whom the next message is for: null for all, else { uid, name }. */
let recipient = null;

let shownCharacters = 0;
/** Whether the newest line is to stay in sight. */
let isAtEnd = true;
/** Where the conversation was scrolled to when that was last looked at. */
let lastScrollTop = 0;
let unread = 0;

// Words

function text(key, values = {}) {
  return texts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** A sentence whose values are set apart, so that their writing direction ends with them. */
function sentence(key, values = {}) {
  const nodes = texts[key].split(/(\{\w+\})/).map((part) => {
    const value = part.startsWith('{') ? values[part.slice(1, -1)] : undefined;
    return value === undefined ? document.createTextNode(part) : create('bdi', '', value);
  });
  const fragment = document.createDocumentFragment();
  fragment.append(...nodes);
  return fragment;
}

/** Text in which nothing is invisible that changes what a reader sees: controls, and changes of direction. */
function visible(raw, keepsLines) {
  const controls = /[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g;
  return String(raw).replace(/\r\n/g, '\n').replace(controls, (character) => {
    if (keepsLines && (character === '\n' || character === '\t')) {
      return character;
    }
    return `[U+${character.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}]`;
  });
}

/** How a user is called; with the uid where the name alone is nobody's or several people's. */
function label(uid) {
  const name = users.get(uid);
  if (name === undefined) {
    return `#${uid}`;
  }
  const isShared = [...users.values()].filter((other) => other === name).length > 1;
  const shown = visible(name, false);
  return isShared || shown.trim() === '' ? `${shown} #${uid}` : shown;
}

function create(tag, className, content) {
  const node = document.createElement(tag);
  if (className) {
    node.className = className;
  }
  if (content !== undefined) {
    node.textContent = content;
  }
  return node;
}

// The connection

function connect() {
  stopTimers();
  ownUid = null;
  expectsOwnLogin = false;
  setState('connecting');
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
  const mine = new WebSocket(`${scheme}://${location.hostname}:${settings.websocketPort}/`);
  socket = mine;
  silenceTimer = setTimeout(abandon, PATIENCE_MS);
  mine.addEventListener('open', () => {
    const login = { type: 'login', name: wantedName };
    mine.send(JSON.stringify(room ? { ...login, room_id: room } : login));
  });
  mine.addEventListener('message', (event) => {
    if (mine === socket) {
      hear();
      receive(event.data);
    }
  });
  mine.addEventListener('close', (event) => {
    if (mine === socket) {
      reconnectLater(event.reason);
    }
  });
}

/** The server is alive; it is not if it stays silent much longer than its heartbeat. */
function hear() {
  clearTimeout(silenceTimer);
  if (maxSilenceMs > 0) {
    silenceTimer = setTimeout(abandon, maxSilenceMs + PATIENCE_MS);
  }
}

function disconnect() {
  stopTimers();
  const old = socket;
  socket = null;
  ownUid = null;
  old?.close();
}

/** Gives up a connection on which nothing comes any more; its close handshake could take for ever. */
function abandon() {
  reconnectLater('');
}

function reconnectLater(reason) {
  const wasIn = ownUid !== null;
  disconnect();
  if (wasIn) {
    addNotice(reason ? sentence('lostBecause', { reason: visible(reason, false) }) : sentence('lost'));
  }
  const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** failures);
  failures += 1;
  // Spread, so that a server that comes back does not meet all its users in one moment.
  const delay = longest * (0.5 + Math.random() / 2);
  const due = Date.now() + delay;
  setState(navigator.onLine ? 'waiting' : 'offline');
  const countDown = () => {
    const seconds = Math.max(1, Math.ceil((due - Date.now()) / 1000));
    element('countdown').textContent = text('countdown', { seconds });
  };
  countDown();
  countdownTimer = setInterval(countDown, 250);
  retryTimer = setTimeout(connect, delay);
}

function reconnectNow() {
  if (wantedName !== null && socket === null) {
    connect();
  }
}

function stopTimers() {
  clearTimeout(retryTimer);
  clearTimeout(silenceTimer);
  clearInterval(countdownTimer);
  element('countdown').textContent = '';
}

function setState(state) {
  const isIn = state === 'connected';
  element('state').dataset.state = state;
  element('state-text').replaceChildren(sentence(state, { name: visible(wantedName, false) }));
  element('retry').hidden = state !== 'waiting' && state !== 'offline';
  element('leave').hidden = state === 'idle';
  element('chat').dataset.live = isIn;
}

// What the server says

function receive(json) {
  let message;
  try {
    message = JSON.parse(json);
  } catch {
    return;
  }
  switch (message?.type) {
    case 'ping':
      socket.send(JSON.stringify({ type: 'pong' }));
      break;
    case 'user_list':
      users.clear();
      for (const user of message.user_list) {
        users.set(user.uid, String(user.name));
      }
      expectsOwnLogin = true;
      break;
    case 'login':
      users.set(message.uid, String(message.name));
      if (expectsOwnLogin) {
        expectsOwnLogin = false;
        enter(message);
      } else {
        showUser(message.uid);
        countUsers();
        relabel(users.get(message.uid));
        addNotice(sentence('joined', { name: label(message.uid) }), message.time);
      }
      break;
    case 'logout': {
      const name = users.get(message.uid);
      addNotice(sentence('gone', { name: label(message.uid) }), message.time);
      users.delete(message.uid);
      hideUser(message.uid);
      relabel(name);
      break;
    }
    case 'say':
      addMessage(message);
      break;
    case 'error':
      handleError(message);
      break;
  }
}

function enter(login) {
  ownUid = login.uid;
  failures = 0;
  store(wantedName);
  setState('connected');
  showUsers();
  addNotice(sentence(hasBeenIn ? 'enteredAgain' : 'entered', { name: label(ownUid) }), login.time);
  showNote(null);
  if (!hasBeenIn) {
    hasBeenIn = true;
    element('login').hidden = true;
    element('chat').hidden = false;
    element('message').focus();
  }
}

function handleError(error) {
  const key = `error_${error.code}`;
  const said = Object.hasOwn(texts, key)
    ? sentence(key)
    : sentence('refused', { message: visible(error.message, false) });
  if (ownUid !== null) {
    addNotice(said, undefined, 'error');
    return;
  }
  leave();
  element('login-error').replaceChildren(said);
}

// What the user does

function join(name) {
  wantedName = name;
  failures = 0;
  element('login-error').replaceChildren();
  disconnect();
  connect();
}

function leave() {
  disconnect();
  wantedName = null;
  hasBeenIn = false;
  store(null);
  setState('idle');
  element('chat').hidden = true;
  element('login').hidden = false;
  element('log').replaceChildren();
  shownCharacters = 0;
  chooseAll();
  element('name').focus();
}

function say() {
  const input = element('message');
  const content = input.value.toWellFormed?.() ?? input.value;
  if (content.trim() === '') {
    return;
  }
  if (ownUid === null || socket?.readyState !== WebSocket.OPEN) {
    showNote(sentence('notSent'));
    return;
  }
  if (recipient !== null && !users.has(recipient.uid)) {
    showNote(sentence('recipientGone', { name: recipient.name }));
    return;
  }
  // The server sends a private message to its sender only where a copy is asked for.
  const json = JSON.stringify(
    recipient === null
      ? { type: 'say', to_uid: 'all', content }
      : { type: 'say', to_uid: recipient.uid, content, copy: true },
  );
  const bytes = new TextEncoder().encode(json).length;
  if (bytes > maxMessageBytes) {
    showNote(sentence('tooLong', { bytes, most: maxMessageBytes }));
    return;
  }
  socket.send(json);
  input.value = '';
  showNote(null);
  scrollToEnd();
}

function showNote(said) {
  element('note').replaceChildren(said ?? '');
}

// The list of users

function showUsers() {
  element('users').replaceChildren();
  userElements.clear();
  fillUsers();
  if (recipient !== null && !users.has(recipient.uid)) {
    const item = userItem(recipient.uid, recipient.name);
    element('users').prepend(item);
    userElements.set(recipient.uid, item);
    markAsGone(recipient.uid);
  }
  countUsers();
}

function showUser(uid) {
  if (userElements.size < MOST_USERS && !userElements.has(uid)) {
    const item = userItem(uid, label(uid));
    element('users').append(item);
    userElements.set(uid, item);
  }
}

/** Shows those for whom there is a place. */
function fillUsers() {
  for (const uid of users.keys()) {
    if (userElements.size >= MOST_USERS) {
      break;
    }
    showUser(uid);
  }
}

function userItem(uid, name) {
  const item = create(uid === ownUid ? 'p' : 'label', `user hue-${uid % HUES}`);
  item.title = `#${uid}`;
  if (uid !== ownUid) {
    const radio = create('input');
    radio.type = 'radio';
    radio.name = 'recipient';
    radio.value = uid;
    radio.checked = recipient?.uid === uid;
    item.append(radio);
  }
  item.append(create('bdi', 'name', name));
  if (uid === ownUid) {
    item.append(create('span', 'remark', text('you')));
  }
  return item;
}

function hideUser(uid) {
  if (recipient?.uid === uid) {
    // A private message must not become one to everyone because its recipient leaves while it is typed.
    markAsGone(uid);
  } else {
    removeUserItem(uid);
  }
  countUsers();
}

function markAsGone(uid) {
  const item = userElements.get(uid);
  item?.classList.add('gone');
  item?.append(create('span', 'remark', text('left')));
  showNote(sentence('recipientGone', { name: recipient.name }));
}

function removeUserItem(uid) {
  userElements.get(uid)?.remove();
  userElements.delete(uid);
  fillUsers();
}

/** Those who have one name are told apart as soon as they are two, and no longer. */
function relabel(name) {
  for (const [uid, item] of userElements) {
    if (users.get(uid) === name) {
      item.querySelector('.name').textContent = label(uid);
    }
  }
}

function countUsers() {
  element('count').textContent = text('count', { count: users.size });
  const hidden = users.size - MOST_USERS;
  element('more-users').hidden = hidden <= 0;
  element('more-users').textContent = text('moreUsers', { count: hidden });
}

function chooseAll() {
  element('recipients').querySelector('[value="all"]').checked = true;
  choose('all');
}

function choose(value) {
  const previous = recipient;
  const uid = Number(value);
  recipient = value === 'all' ? null : { uid, name: label(uid) };
  if (previous !== null && !users.has(previous.uid)) {
    removeUserItem(previous.uid);
  }
  element('composer').classList.toggle('private', recipient !== null);
  element('message-label').replaceChildren(
    recipient === null ? sentence('toEveryone') : sentence('toUser', { name: recipient.name }),
  );
  showNote(null);
}

// The conversation

function addMessage(message) {
  const isOwn = message.from_uid === ownUid;
  const isPrivate = message.to_uid !== 'all';
  const line = create('div', `line message hue-${message.from_uid % HUES}`);
  line.classList.toggle('own', isOwn);
  line.classList.toggle('private', isPrivate);
  const heading = create('p', 'heading');
  heading.append(create('bdi', 'name', label(message.from_uid)));
  if (isPrivate) {
    const remark = create('span', 'remark');
    remark.append(
      message.to_uid === ownUid ? sentence('privateFrom') : sentence('privateTo', { name: label(message.to_uid) }),
    );
    heading.append(' ', remark);
  }
  heading.append(' ', timeElement(message.time));
  const content = create('div', 'content', visible(message.content, true));
  content.dir = 'auto';
  line.append(heading, content);
  addLine(line);
  if (document.hidden) {
    unread += 1;
    showTitle();
  }
}

function addNotice(said, time, kind = 'notice') {
  const line = create('div', `line ${kind}`);
  line.append(timeElement(time), ' ', said);
  addLine(line);
}

/** The server's time where it tells one, else this machine's. */
function timeElement(serverTime) {
  const now = new Date();
  const local = new Date(now.getTime() - now.getTimezoneOffset() * 60_000).toISOString().slice(0, 19).replace('T', ' ');
  const time = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/.test(serverTime) ? serverTime : local;
  const node = create('time', '', time.slice(11));
  node.dateTime = time;
  node.title = time;
  return node;
}

function addLine(line) {
  const log = element('log');
  log.append(line);
  shownCharacters += line.textContent.length;
  while (log.childElementCount > 1 && (log.childElementCount > MOST_LINES || shownCharacters > MOST_CHARACTERS)) {
    shownCharacters -= log.firstElementChild.textContent.length;
    log.firstElementChild.remove();
  }
  if (isAtEnd) {
    scrollToEnd();
  } else {
    element('newest').hidden = false;
  }
}

function scrollToEnd() {
  setAtEnd(true);
  // Once a picture, however many messages came for it.
  scrollToEnd.frame ??= requestAnimationFrame(() => {
    scrollToEnd.frame = undefined;
    const log = element('log');
    log.scrollTop = log.scrollHeight;
    lastScrollTop = log.scrollTop;
  });
}

function setAtEnd(value) {
  isAtEnd = value;
  element('log').classList.toggle('at-end', value);
  if (value) {
    element('newest').hidden = true;
  }
}

function noteScroll() {
  const log = element('log');
  // New lines move the end away too; only going up is a wish to stay there.
  if (log.scrollHeight - log.scrollTop - log.clientHeight < 40) {
    setAtEnd(true);
  } else if (log.scrollTop < lastScrollTop) {
    setAtEnd(false);
  }
  lastScrollTop = log.scrollTop;
}

function showTitle() {
  const title = room ? `${text('title')} · ${visible(room, false)}` : text('title');
  document.title = unread > 0 ? `(${unread}) ${title}` : title;
}

// The name that a reload finds again

function store(name) {
  try {
    if (name === null) {
      sessionStorage.removeItem(STORED_NAME);
    } else {
      sessionStorage.setItem(STORED_NAME, name);
    }
  } catch {
    // Browsers may forbid storage; then a reload asks for the name again.
  }
}

function storedName() {
  try {
    return sessionStorage.getItem(STORED_NAME);
  } catch {
    return null;
  }
}

function start() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll('[data-text]')) {
    node.textContent = text(node.dataset.text);
  }
  element('log').ariaLabel = text('conversation');
  if (room) {
    element('room').textContent = text('room', { room: visible(room, false) });
  }
  showTitle();

  element('login').addEventListener('submit', (event) => {
    event.preventDefault();
    join(element('name').value.trim());
  });
  element('leave').addEventListener('click', leave);
  element('retry').addEventListener('click', reconnectNow);
  element('newest').addEventListener('click', scrollToEnd);
  element('composer').addEventListener('submit', (event) => {
    event.preventDefault();
    say();
    element('message').focus();
  });
  element('message').addEventListener('keydown', (event) => {
    // An Enter that ends the composition of a character (229 in older browsers) is not an Enter.
    const isComposing = event.isComposing || event.keyCode === 229;
    if (event.key === 'Enter' && !event.shiftKey && !isComposing) {
      event.preventDefault();
      say();
    } else if (event.key === 'Escape' && !isComposing) {
      chooseAll();
    }
  });
  element('recipients').addEventListener('change', (event) => choose(event.target.value));
  element('recipients').addEventListener('keydown', (event) => {
    if (event.key === 'Enter') {
      event.preventDefault();
      element('message').focus();
    }
  });
  element('log').addEventListener('scroll', noteScroll);
  new ResizeObserver(() => isAtEnd && scrollToEnd()).observe(element('log'));
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) {
      unread = 0;
      showTitle();
      // Timers of hidden pages are slow.
      reconnectNow();
    }
  });
  window.addEventListener('online', reconnectNow);

  const name = storedName();
  leave();
  if (name) {
    element('name').value = name;
    join(name);
  }
}

start();
