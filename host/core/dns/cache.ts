import type { Instant } from "../time.ts";
import { agedResponse, type DnsAnswer, type DnsQuery, RCODE_NOERROR } from "./message.ts";

/** Answers that would be asked for again at once are not worth keeping (tunnel-core §2.4). */
const MIN_TTL_SECONDS = 5;
/** At the limit the answer that was stored first goes. */
export const CACHE_ENTRIES = 1024;
/** Answers above this size are not kept, so that the whole cache stays below 8 MiB. */
const MAX_CACHED_BYTES = 8192;

interface CachedAnswer {
  readonly answer: DnsAnswer;
  readonly storedAt: Instant;
  readonly expiresAt: Instant;
}

/** Answers of upstreams by name and type (tunnel-core §11.8). Expired entries go on lookup or by the limit. */
export class DnsCache {
  readonly #answers = new Map<string, CachedAnswer>();

  /** Keeps the answer if it may be kept. */
  insert(query: DnsQuery, answer: DnsAnswer, now: Instant): void {
    const key = keyOf(query);
    if (key === undefined || answer.rcode !== RCODE_NOERROR || answer.isTruncated) return;
    if (answer.bytes.length > MAX_CACHED_BYTES) return;

    const ttls = answer.records.filter((record) => record.type === query.type).map((record) => record.ttl);
    const ttl = ttls.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
    if (ttls.length === 0 || ttl < MIN_TTL_SECONDS) return;

    this.#answers.delete(key);
    this.#answers.set(key, { answer, storedAt: now, expiresAt: now + ttl * 1000 });
    if (this.#answers.size > CACHE_ENTRIES) {
      const oldest = this.#answers.keys().next();
      if (!oldest.done) this.#answers.delete(oldest.value);
    }
  }

  /** A response to the query, or undefined. */
  lookup(query: DnsQuery, now: Instant): Uint8Array | undefined {
    const key = keyOf(query);
    const cached = key === undefined ? undefined : this.#answers.get(key);
    if (key === undefined || cached === undefined) return undefined;

    if (now >= cached.expiresAt) {
      this.#answers.delete(key);
      return undefined;
    }
    return agedResponse(cached.answer, query, Math.floor((now - cached.storedAt) / 1000));
  }

  flush(): void {
    this.#answers.clear();
  }
}

/** Undefined for names that text cannot express. The class keeps rare ones apart. */
function keyOf(query: DnsQuery): string | undefined {
  return query.name === undefined ? undefined : `${query.type} ${query.class} ${query.name}`;
}
