import type { Machine } from "./machine.ts";
import { fail } from "./referee.ts";

/** A machine that may reach nothing and nobody holds nothing and sleeps. */
export function checkEmpty(role: string, { machine }: { readonly machine: Watched | undefined }): void {
  if (machine === undefined) return;
  if (machine.held.peers !== 0) fail(`${role} keeps ${machine.held.peers} peer slots of peers that are gone`);
  if (machine.held.filters !== 0)
    fail(`${role} keeps ${machine.held.filters} filters of resources that are gone`);
  if (machine.wakeUps.length > MAX_WAKE_UPS)
    fail(`${role} woke ${machine.wakeUps.length} times in a quiet minute`);
}

type Watched = Pick<Machine<never, never>, "held" | "wakeUps">;

/** In a minute: keep-alives to two relays, each repeated up to four times when datagrams are lost. */
const MAX_WAKE_UPS = 32;
