import type { ClientStatus } from "../core/client/status.ts";
import type { Explanation } from "../core/explanation.ts";
import type { GatewayStatus } from "../core/gateway/explain.ts";
import type { MachineQuery } from "./data-thread-protocol.ts";
import { LocalApi } from "./local-api.ts";
import type { StatusBoard } from "./status.ts";

/** The part of a data plane that answers. */
export interface QueryTarget {
  query<Answer>(query: MachineQuery): Promise<Answer>;
}

/** Opens the local API of a client or gateway daemon. */
export function openLocalApi(
  socketPath: string,
  daemon: { readonly board: StatusBoard; readonly plane: () => QueryTarget | undefined },
): Promise<LocalApi> {
  const ask = async <Answer>(query: MachineQuery): Promise<Answer> => {
    const plane = daemon.plane();
    if (plane === undefined) throw new Error("the daemon is starting");
    return plane.query<Answer>(query);
  };
  return LocalApi.open(socketPath, {
    status: async () => ({
      ...daemon.board.fields(),
      ...(await ask<ClientStatus | GatewayStatus>({ kind: "status" })),
    }),
    explain: (question) => ask<Explanation>({ kind: "explain", question }),
  });
}
