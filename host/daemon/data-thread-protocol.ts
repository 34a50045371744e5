import type { SocketAddress } from "../core/address.ts";
import type { Question } from "../core/explanation.ts";

export type UdpBackend = "native" | "portable";

/** Which machine the data thread runs, and what it is made from. Crosses a thread: plain data only. */
export type MachineSetup =
  | { readonly role: "client" | "gateway"; readonly privateKey: Uint8Array }
  | {
      readonly role: "static";
      readonly privateKey: Uint8Array;
      readonly peers: readonly {
        readonly publicKey: Uint8Array;
        readonly presharedKey?: Uint8Array | undefined;
        readonly endpoint?: SocketAddress | undefined;
        readonly allowedIps: readonly string[];
        readonly keepaliveSeconds?: number | undefined;
      }[];
    };

export interface DataThreadSetup {
  readonly machine: MachineSetup;
  readonly tunName: string;
  readonly backend: UdpBackend;
  /** Preferred UDP port (connectivity §4.1). */
  readonly port: number;
  readonly mark: number | undefined;
  readonly wakeFd: number;
  /** One i32: nonzero makes the thread leave its loop without a word. */
  readonly stop: SharedArrayBuffer;
}

export interface DataThreadStatistics {
  /** Datagrams and frames that the packet core refused, by reason. */
  readonly core: Readonly<Record<string, number>>;
  /** Packets inside the tunnel that the machine refused, by reason. */
  readonly machine: Readonly<Record<string, number>>;
  /** Datagrams of STUN and handshakes that were refused, by reason. */
  readonly datagrams: Readonly<Record<string, number>>;
  readonly udp: Readonly<Record<string, number>>;
  readonly tun: Readonly<Record<string, number>>;
}

/** A question to the machine; the answer is an `Explanation`, or the role's status. Changes nothing. */
export type MachineQuery =
  | { readonly kind: "explain"; readonly question: Question }
  | { readonly kind: "status" };

export type ToDataThread =
  | { readonly kind: "command"; readonly command: unknown }
  | { readonly kind: "statistics"; readonly id: number }
  | { readonly kind: "query"; readonly id: number; readonly query: MachineQuery }
  /** Say goodbye to everyone, then leave the loop. */
  | { readonly kind: "shutdown" };

export type FromDataThread =
  | {
      readonly kind: "ready";
      readonly offload: string;
      readonly local: { readonly v4: SocketAddress | undefined; readonly v6: SocketAddress | undefined };
    }
  | { readonly kind: "failed"; readonly message: string }
  | { readonly kind: "event"; readonly event: unknown }
  | { readonly kind: "statistics"; readonly id: number; readonly statistics: DataThreadStatistics }
  | { readonly kind: "answer"; readonly id: number; readonly answer: unknown }
  | { readonly kind: "stopped"; readonly statistics: DataThreadStatistics };
