// What may happen in a run, as plain data: a transition means the same whatever came before, so any can be left out.
import type { SeededRandom } from "../sim/random.ts";
import {
  CLIENTS,
  DESTINATIONS,
  FILTERS,
  GATEWAY_SITES,
  NAMES,
  OTHER_NAMES,
  PORTS,
  RECORDS,
  SLOTS,
  STACKS,
} from "./universe.ts";

const PACKET = { client: CLIENTS, port: PORTS.length, size: 1100, answer: 3, patient: 2 } as const;
const TO_ADDRESS = { ...PACKET, destination: DESTINATIONS.length } as const;
const TO_NAME = { ...PACKET, name: NAMES.length, proxy: 4, ipv6: 2, query: 4 } as const;
const DURATION = { seconds: 40 } as const;

/** Kinds of transitions: how often they come, and below which numbers their parameters lie. */
export const KINDS = {
  "udp-to-address": { weight: 6, below: TO_ADDRESS },
  "tcp-to-address": { weight: 4, below: TO_ADDRESS },
  "echo-to-address": { weight: 4, below: TO_ADDRESS },
  "other-to-address": { weight: 1, below: TO_ADDRESS },
  "udp-to-name": { weight: 8, below: TO_NAME },
  "tcp-to-name": { weight: 6, below: TO_NAME },
  "echo-to-name": { weight: 4, below: TO_NAME },
  "other-to-name": { weight: 1, below: TO_NAME },
  "same-port-to-name": { weight: 3, below: { flow: 8, proxy: 4 } },
  "continue-flow": { weight: 14, below: { flow: 8, size: 1100 } },
  "close-flow": { weight: 2, below: { flow: 8, reset: 2 } },
  "spoof-source": {
    weight: 1,
    below: { client: CLIENTS, destination: DESTINATIONS.length, port: PORTS.length },
  },
  "site-sends-first": {
    weight: 2,
    below: {
      client: CLIENTS,
      gateway: GATEWAY_SITES.length,
      destination: DESTINATIONS.length,
      port: PORTS.length,
      protocol: 3,
    },
  },
  "query-address": { weight: 5, below: { client: CLIENTS, name: NAMES.length, ipv6: 2 } },
  "query-other-type": { weight: 3, below: { client: CLIENTS, name: NAMES.length, type: 6 } },
  "query-in-site": { weight: 2, below: { client: CLIENTS, name: NAMES.length, type: 2 } },
  "query-reverse": { weight: 1, below: { client: CLIENTS, name: NAMES.length, proxy: 4 } },
  "query-other-name": { weight: 2, below: { client: CLIENTS, name: OTHER_NAMES.length, ipv6: 2 } },
  "query-canary": { weight: 1, below: { client: CLIENTS } },
  "change-records": {
    weight: 8,
    below: {
      client: CLIENTS,
      name: NAMES.length,
      records: 2 ** RECORDS.length,
      query: 4,
      proxy: 4,
      ipv6: 2,
      port: PORTS.length,
      protocol: 3,
    },
  },
  "add-resource": { weight: 3, below: { slot: SLOTS.length } },
  "remove-resource": { weight: 2, below: { slot: SLOTS.length } },
  "change-address": { weight: 2, below: { slot: SLOTS.length, address: 3 } },
  "change-filters": { weight: 4, below: { slot: SLOTS.length, filters: FILTERS.length } },
  "change-site": { weight: 2, below: { slot: SLOTS.length } },
  "change-stack": { weight: 2, below: { slot: SLOTS.length, stack: STACKS.length } },
  grant: { weight: 3, below: { slot: SLOTS.length, client: CLIENTS } },
  revoke: { weight: 2, below: { slot: SLOTS.length, client: CLIENTS } },
  expire: { weight: 3, below: { client: CLIENTS, seconds: 30, cut: 4, destination: 3, farewell: 2 } },
  "toggle-internet": { weight: 2, below: { client: CLIENTS } },
  "portal-servers": { weight: 2, below: { servers: 16 } },
  "system-resolvers": { weight: 1, below: { client: CLIENTS, servers: 16 } },
  "upstream-mode": { weight: 1, below: { mode: 3 } },
  roam: { weight: 3, below: { client: CLIENTS } },
  "restart-client": { weight: 2, below: { client: CLIENTS, farewell: 2 } },
  "restart-gateway": { weight: 2, below: { gateway: GATEWAY_SITES.length } },
  "restart-portal": { weight: 2, below: {} },
  "restart-relay": { weight: 1, below: { relay: 2 } },
  "cut-portal-from-client": { weight: 2, below: { client: CLIENTS, ...DURATION } },
  "cut-portal-from-gateway": { weight: 2, below: { gateway: GATEWAY_SITES.length, ...DURATION } },
  "cut-client": { weight: 2, below: { client: CLIENTS, ...DURATION } },
  "cut-gateway": { weight: 2, below: { gateway: GATEWAY_SITES.length, ...DURATION } },
  "cut-relay": { weight: 1, below: { relay: 2, ...DURATION } },
  "forget-nat": { weight: 1, below: { client: CLIENTS } },
  "step-clock": { weight: 1, below: { steps: 9 } },
  wait: { weight: 3, below: { seconds: 20 } },
  idle: { weight: 2, below: { minutes: 4 } },
  "hostile-datagram": { weight: 2, below: { form: 6, host: CLIENTS + GATEWAY_SITES.length, seed: 2 ** 16 } },
  "hostile-client": {
    weight: 6,
    below: {
      client: CLIENTS,
      gateway: GATEWAY_SITES.length,
      form: 9,
      destination: DESTINATIONS.length,
      name: NAMES.length,
      port: PORTS.length,
    },
  },
  "hostile-gateway": {
    weight: 1,
    below: { client: CLIENTS, gateway: GATEWAY_SITES.length, form: 3, seed: 2 ** 16 },
  },
} as const satisfies Record<string, { weight: number; below: Readonly<Record<string, number>> }>;

export type Kind = keyof typeof KINDS;

export type TransitionOf<K extends Kind> = K extends Kind
  ? { readonly kind: K } & { readonly [P in keyof (typeof KINDS)[K]["below"]]: number }
  : never;
export type Transition = TransitionOf<Kind>;

const ALL = Object.keys(KINDS) as Kind[];
const TOTAL_WEIGHT = ALL.reduce((sum, kind) => sum + KINDS[kind].weight, 0);

export function randomTransition(random: SeededRandom): Transition {
  let ticket = random.uniform() * TOTAL_WEIGHT;
  const isDrawn = (candidate: Kind) => {
    ticket -= KINDS[candidate].weight;
    return ticket < 0;
  };
  const kind = ALL.find(isDrawn) ?? "wait";
  const below: Readonly<Record<string, number>> = KINDS[kind].below;
  const parameters = Object.entries(below).map(([name, limit]) => [
    name,
    Math.floor(random.uniform() * limit),
  ]);
  return { kind, ...Object.fromEntries(parameters) } as Transition;
}
