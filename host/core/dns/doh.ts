/**
 * DNS over HTTPS (RFC 8484) as requests of method GET. A machine sets a query's id to 0, so that equal
 * queries are equal requests (§4.1).
 */
export const DOH_CONTENT_TYPE = "application/dns-message";

/** A server's URL must be https with a host, and without a query string, which is ours (tunnel-core §11.6). */
export function isDohUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  return url.protocol === "https:" && url.hostname !== "" && url.search === "" && !text.includes("?");
}

/** What to GET for a query: `<url>?dns=<base64url without padding>`. */
export function dohRequestUrl(server: string, message: Uint8Array): string {
  const url = new URL(server);
  url.hash = "";
  url.search = `dns=${Buffer.from(message.buffer, message.byteOffset, message.length).toString("base64url")}`;
  return url.href;
}
