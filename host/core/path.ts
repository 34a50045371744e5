import { type SocketAddress, socketAddressText } from "./address.ts";
import type { PathId } from "./id.ts";

/** Where trains of a peer leave from and go to. */
export interface Path {
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
}

/**
 * Numbers the paths in use, so that the packet core can carry a path as one integer.
 *
 * Filled by the connections, read by the driver when it sends a train. An id is reused only after
 * every holder released it, and never within one batch: releases take effect on `collect`.
 */
export class PathTable {
  readonly #paths = new Map<PathId, { path: Path; key: string; holders: number }>();
  readonly #ids = new Map<string, PathId>();
  readonly #free: PathId[] = [];
  #next: PathId = 1;

  /** Takes hold of the path; each call must be paired with a `release`. */
  acquire(path: Path): PathId {
    const key = `${socketAddressText(path.source)}>${socketAddressText(path.destination)}`;
    const known = this.#ids.get(key);
    if (known !== undefined) {
      const entry = this.#paths.get(known);
      if (entry !== undefined) entry.holders += 1;
      return known;
    }
    const id = this.#free.pop() ?? this.#next++;
    this.#paths.set(id, { path, key, holders: 1 });
    this.#ids.set(key, id);
    return id;
  }

  release(id: PathId): void {
    const entry = this.#paths.get(id);
    if (entry !== undefined) entry.holders -= 1;
  }

  path(id: PathId): Path | undefined {
    return this.#paths.get(id)?.path;
  }

  /** Forgets paths that nobody holds; returns their ids. Called by the driver between batches. */
  collect(): PathId[] {
    const gone: PathId[] = [];
    for (const [id, entry] of this.#paths) {
      if (entry.holders > 0) continue;
      this.#paths.delete(id);
      this.#ids.delete(entry.key);
      this.#free.push(id);
      gone.push(id);
    }
    return gone;
  }
}
