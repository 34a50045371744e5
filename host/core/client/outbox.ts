import type { ClientEgress } from "../messages.ts";
import { type Note, note, type Severity } from "../note.ts";
import type { ClientEvent } from "./events.ts";

/** Events that wait to be polled; the parts of the client write into one. */
export class Outbox {
  readonly #events: ClientEvent[] = [];

  push(event: ClientEvent): void {
    this.#events.push(event);
  }

  portal(message: ClientEgress): void {
    this.#events.push({ kind: "portal", message });
  }

  note(severity: Severity, message: string, fields?: Note["fields"]): void {
    this.#events.push(note(severity, message, fields));
  }

  poll(): ClientEvent | undefined {
    return this.#events.shift();
  }
}
