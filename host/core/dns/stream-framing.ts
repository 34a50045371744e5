/** DNS over TCP: each message follows its length in two bytes (RFC 1035 §4.2.2). */
const LENGTH_BYTES = 2;
export const MAX_STREAM_MESSAGE_BYTES = 0xffff;

/** What framed messages are read from; a TCP connection is one. */
export interface ByteSource {
  readonly readable: number;
  peek(length: number): Uint8Array;
  drop(length: number): void;
}

/** The message with its length in front; at most `MAX_STREAM_MESSAGE_BYTES`. */
export function frameMessage(message: Uint8Array): Uint8Array {
  if (message.length > MAX_STREAM_MESSAGE_BYTES) throw new RangeError(`message of ${message.length} bytes`);

  const bytes = new Uint8Array(LENGTH_BYTES + message.length);
  bytes[0] = message.length >> 8;
  bytes[1] = message.length;
  bytes.set(message, LENGTH_BYTES);
  return bytes;
}

/** The next complete message, which is taken from the source; undefined if it is not all there yet. */
export function takeMessage(source: ByteSource): Uint8Array | undefined {
  if (source.readable < LENGTH_BYTES) return undefined;

  const [high = 0, low = 0] = source.peek(LENGTH_BYTES);
  const framed = LENGTH_BYTES + ((high << 8) | low);
  if (source.readable < framed) return undefined;

  const message = source.peek(framed).subarray(LENGTH_BYTES);
  source.drop(framed);
  return message;
}
