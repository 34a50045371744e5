import {
  type CheckTimings,
  CLIENT_IDLE_TIMINGS,
  CLIENT_TIMINGS,
  GATEWAY_IDLE_TIMINGS,
  GATEWAY_TIMINGS,
} from "../ice/pair.ts";

/** What client and gateway do differently below policy (connectivity §8.5, §10.5). */
export interface RoleSettings {
  readonly timings: CheckTimings;
  readonly idleTimings: CheckTimings;
}

export const CLIENT_SETTINGS: RoleSettings = {
  timings: CLIENT_TIMINGS,
  idleTimings: CLIENT_IDLE_TIMINGS,
};

/** Patient: a client that went away may come back on the same credentials. */
export const GATEWAY_SETTINGS: RoleSettings = {
  timings: GATEWAY_TIMINGS,
  idleTimings: GATEWAY_IDLE_TIMINGS,
};
