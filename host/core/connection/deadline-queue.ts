import type { Instant } from "../time.ts";

export interface Entry<K> {
  readonly key: K;
  readonly at: Instant;
}

/**
 * Which of many machines must be called next: a binary heap with one deadline per key.
 *
 * A changed deadline leaves its old entry in the heap until it surfaces; the heap is rebuilt when stale
 * entries outnumber live ones, so it never holds more than twice the keys, plus a constant.
 */
export class DeadlineQueue<K> {
  readonly #deadlines = new Map<K, Instant>();
  #heap: Entry<K>[] = [];

  /** Undefined removes the key. */
  set(key: K, at: Instant | undefined): void {
    if (this.#deadlines.get(key) === at) return;
    if (at === undefined) {
      this.#deadlines.delete(key);
      return;
    }
    this.#deadlines.set(key, at);
    this.#push({ key, at });
    if (this.#heap.length > 2 * this.#deadlines.size + 64) this.#rebuild();
  }

  /** The key with the earliest deadline. */
  first(): Entry<K> | undefined {
    this.#dropStale();
    return this.#heap[0];
  }

  /** Removes and returns a key whose deadline is reached. */
  takeDue(now: Instant): K | undefined {
    this.#dropStale();
    const head = this.#heap[0];
    if (head === undefined || head.at > now) return undefined;

    this.#pop();
    this.#deadlines.delete(head.key);
    return head.key;
  }

  #dropStale(): void {
    for (;;) {
      const head = this.#heap[0];
      if (head === undefined || this.#deadlines.get(head.key) === head.at) return;
      this.#pop();
    }
  }

  #rebuild(): void {
    this.#heap = [];
    for (const [key, at] of this.#deadlines) this.#push({ key, at });
  }

  #push(entry: Entry<K>): void {
    const heap = this.#heap;
    let child = heap.length;
    heap.push(entry);
    while (child > 0) {
      const parent = (child - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || above.at <= entry.at) break;
      heap[child] = above;
      child = parent;
    }
    heap[child] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;

    let parent = 0;
    for (;;) {
      let child = parent * 2 + 1;
      const left = heap[child];
      if (left === undefined) break;
      const right = heap[child + 1];
      if (right !== undefined && right.at < left.at) child += 1;
      const smallest = heap[child];
      if (smallest === undefined || smallest.at >= last.at) break;
      heap[parent] = smallest;
      parent = child;
    }
    heap[parent] = last;
  }
}
