// A WebSocket over HTTP/2 (RFC 8441) with node's client: it asks for it, says hi, and leaves.
//
// Usage: http2.mjs PORT. Only what is needed for a capture: no part of observer.

import { connect } from 'node:http2';

const session = connect(`http://127.0.0.1:${process.argv[2]}`);
session.on('remoteSettings', settings => {
  if (!settings.enableConnectProtocol) throw new Error('extended CONNECT is not allowed');
  const stream = session.request({
    ':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'http', ':path': '/', ':authority': 'chat.example.org',
    'sec-websocket-version': '13',
  });
  stream.on('response', headers => {
    console.log('status', headers[':status']);
    // {"type":"login","name":"h2"} with a mask of zeros, and a close frame.
    const text = Buffer.from('{"type":"login","name":"h2"}');
    stream.write(Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), text]));
    stream.once('data', data => {
      console.log(data.toString('latin1'));
      stream.end(Buffer.from([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]));
      stream.resume();
    });
  });
  stream.on('close', () => session.close());
});
