// Text forms of bytes with what every JavaScript runtime has, so that the codec runs outside Node too.

/** Standard alphabet with padding. */
export function toBase64(bytes: Uint8Array): string {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}

export function toBase64NoPad(bytes: Uint8Array): string {
  return toBase64(bytes).replace(/=+$/, "");
}

/** URL-safe alphabet without padding. */
export function toBase64Url(bytes: Uint8Array): string {
  return toBase64NoPad(bytes).replaceAll("+", "-").replaceAll("/", "_");
}

/** Undefined unless the text is canonical: the encoding of exactly one byte string, with padding. */
export function fromBase64(text: string): Uint8Array | undefined {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4 !== 0) return undefined;
  const bytes = decodeBinary(text);
  return bytes !== undefined && toBase64(bytes) === text ? bytes : undefined;
}

/** Undefined unless the text is canonical URL-safe base64 without padding. */
export function fromBase64Url(text: string): Uint8Array | undefined {
  if (!/^[A-Za-z0-9_-]*$/.test(text)) return undefined;
  const standard = text.replaceAll("-", "+").replaceAll("_", "/");
  const bytes = decodeBinary(standard.padEnd(Math.ceil(standard.length / 4) * 4, "="));
  return bytes !== undefined && toBase64Url(bytes) === text ? bytes : undefined;
}

function decodeBinary(text: string): Uint8Array | undefined {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}
