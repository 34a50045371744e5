/** Runs asynchronous tasks one after the other. */
export class TaskQueue {
  #tail: Promise<void> = Promise.resolve();
  readonly #onError: (error: Error) => void;

  constructor(onError: (error: Error) => void) {
    this.#onError = onError;
  }

  add(task: () => Promise<void>): void {
    this.#tail = this.#tail.then(task).catch((error: unknown) => {
      this.#onError(error instanceof Error ? error : new Error(String(error)));
    });
  }

  /** Resolves when everything added so far has run. */
  settled(): Promise<void> {
    return this.#tail;
  }
}
