// Entry of the data thread: one worker with the packet core, a machine, the TUN device and the sockets.
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import * as abi from "../../assembly/abi.ts";
import { PathTable } from "../core/path.ts";
import type { TunnelMachine } from "../core/tunnel-machine.ts";
import { WakeUp } from "../io/linux/event-loop.ts";
import { addressOf } from "../io/linux/libc.ts";
import { openMarkedDatagramSocket } from "../io/linux/marked-socket.ts";
import { type FrameMemory, Tun } from "../io/linux/tun.ts";
import { NativeUdp } from "../io/linux/udp.ts";
import { PortableUdp } from "../io/portable/udp.ts";
import type { DatagramMemory, UdpSockets } from "../io/udp.ts";
import { loadPacketCore } from "../wasm/loader.ts";
import type { WasmPacketCore } from "../wasm/packet-core.ts";
import { monotonicNow } from "./clock.ts";
import { PortableDriver, runBlocking } from "./data-drivers.ts";
import { DataLoop } from "./data-loop.ts";
import type { DataThreadSetup, FromDataThread, ToDataThread } from "./data-thread-protocol.ts";
import { createMachine } from "./machines.ts";

const setup = workerData as DataThreadSetup;
const port = parentPort;
if (port === null) throw new Error("the data thread runs as a worker only");

try {
  await runDataThread(setup, port);
} catch (error) {
  post({ kind: "failed", message: error instanceof Error ? error.message : String(error) });
}

function post(message: FromDataThread): void {
  port?.postMessage(message);
}

async function runDataThread(setup: DataThreadSetup, port: NonNullable<typeof parentPort>): Promise<void> {
  const core = loadPacketCore();
  const tun = new Tun(setup.tunName, frameMemory(core));
  core.batch.setCoalesce(tun.offload === "tcp-and-udp");
  let driver: PortableDriver | undefined;
  const udp =
    setup.backend === "native"
      ? new NativeUdp(datagramMemory(core), { port: setup.port, mark: setup.mark })
      : await PortableUdp.open(datagramMemory(core), {
          port: setup.port,
          onReadable: (family) => driver?.handleReadable(family),
          openDescriptor: descriptorOpener(setup.mark),
        });
  const paths = new PathTable();
  const { machine, refusedDatagrams, answer } = createMachine(
    setup.machine,
    { core, paths, local: udp.local },
    monotonicNow(),
  );
  const loop = new DataLoop({
    core,
    machine: machine as TunnelMachine<unknown, unknown>,
    paths,
    tun,
    udp,
    now: monotonicNow,
    post: (event) => post({ kind: "event", event }),
  });

  const stop = new Int32Array(setup.stop);
  const wake = new WakeUp(setup.wakeFd);
  let stopping = false;
  const handle = (message: ToDataThread): void => {
    if (message.kind === "command") loop.handleCommand(message.command);
    else if (message.kind === "statistics")
      post({ kind: "statistics", id: message.id, statistics: statistics() });
    else if (message.kind === "query")
      post({ kind: "answer", id: message.id, answer: answer?.(message.query, monotonicNow()) });
    else {
      loop.handleCommand({ kind: "shutdown" });
      stopping = true;
    }
  };
  const statistics = () => ({
    core: core.drops(),
    machine: { ...loop.drops },
    datagrams: refusedDatagrams(),
    udp: { ...udp.counters },
    tun: { ...tun.counters },
  });
  const parts = {
    loop: loop as DataLoop<never, unknown>,
    tunFd: tun.fd,
    udpFds: descriptors(udp),
    wake,
    receiveMessages: () => {
      // Synchronous: the blocking driver never returns to Node's event loop.
      for (let next = receiveMessageOnPort(port); next !== undefined; next = receiveMessageOnPort(port)) {
        handle(next.message as ToDataThread);
      }
    },
    stopped: () => stopping || Atomics.load(stop, 0) !== 0,
  };
  post({ kind: "ready", offload: tun.offload, local: udp.local });
  if (setup.backend === "native") {
    runBlocking(parts);
  } else {
    driver = new PortableDriver(parts);
    await driver.run();
  }
  udp.close();
  tun.close();
  post({ kind: "stopped", statistics: statistics() });
}

function descriptorOpener(mark: number | undefined) {
  if (mark === undefined) return undefined;
  return (family: 4 | 6, wanted: number) => openMarkedDatagramSocket(family, wanted, mark);
}

function descriptors(udp: UdpSockets): { v4: number | undefined; v6: number | undefined } {
  return udp instanceof NativeUdp ? { v4: udp.fd(4), v6: udp.fd(6) } : { v4: undefined, v6: undefined };
}

function frameMemory(core: WasmPacketCore): FrameMemory {
  return {
    address: addressOf(core.bytes),
    inBase: abi.TUN_IN_BASE,
    inBytes: abi.TUN_IN_BYTES,
    capacity: abi.FRAME_IN_CAPACITY,
    describe: (index, offset, length) => core.batch.setFrameIn(index, offset, length),
  };
}

function datagramMemory(core: WasmPacketCore): DatagramMemory {
  return {
    bytes: core.bytes,
    address: addressOf(core.bytes),
    buffers: Array.from(
      { length: abi.UDP_IN_BUFFERS },
      (_, i) => abi.UDP_IN_BASE + i * abi.UDP_IN_BUFFER_BYTES,
    ),
    bufferBytes: abi.UDP_IN_BUFFER_BYTES,
    describe: (index, offset, length, segmentBytes, ecn) =>
      core.batch.setDatagramIn(index, offset, length, segmentBytes, ecn),
  };
}
