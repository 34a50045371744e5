import { BindingServer } from "../../host/core/relay/binding-server.ts";
import type { Deadline, Instant } from "../../host/core/time.ts";
import type { Datagram, Transmit } from "../../host/core/transmit.ts";
import type { Endpoint } from "./network.ts";

/** A relay that answers Binding requests, until it is told to be silent. */
export class SimRelay implements Endpoint {
  readonly server = new BindingServer();
  isSilent = false;
  readonly #transmits: Transmit[] = [];

  handleDatagram(datagram: Datagram, now: Instant): void {
    if (this.isSilent) return;
    const payload = this.server.handleDatagram(datagram, now);
    if (payload !== undefined) {
      this.#transmits.push({ source: datagram.local, destination: datagram.from, payload });
    }
  }

  handleTimeout(): void {}

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  pollTimeout(): Deadline | undefined {
    return undefined;
  }
}
