/** First in, first out, without moving what is left: hundreds of connections may be due in one call. */
export class Fifo<T> {
  #items: T[] = [];
  #head = 0;

  push(item: T): void {
    this.#items.push(item);
  }

  shift(): T | undefined {
    const item = this.#items[this.#head];
    if (item === undefined) {
      this.clear();
      return undefined;
    }
    this.#head += 1;
    return item;
  }

  clear(): void {
    this.#items = [];
    this.#head = 0;
  }
}
