import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { LabHost, link } from "../../host/lab/host.ts";

/** Two hosts on one wire: `left` is 10.9.0.1 and fd00:9::1, `right` the .2. */
export class Pair {
  readonly left: LabHost;
  readonly right: LabHost;
  readonly directory: string;

  private constructor(left: LabHost, right: LabHost, directory: string) {
    this.left = left;
    this.right = right;
    this.directory = directory;
  }

  static async create(): Promise<Pair> {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "culvert-pair-"));
    const files = { resolvConf: "" };
    const left = await LabHost.create("left", path.join(directory, "left"), files);
    const right = await LabHost.create("right", path.join(directory, "right"), files);
    await link(left, "eth0", right, "eth0");
    for (const [host, number] of [
      [left, 1],
      [right, 2],
    ] as const) {
      await host.ip([
        `addr add 10.9.0.${number}/24 dev eth0`,
        `addr add fd00:9::${number}/64 dev eth0 nodad`,
        "link set eth0 up",
      ]);
    }
    return new Pair(left, right, directory);
  }

  async destroy(): Promise<void> {
    await Promise.all([this.left.destroy(), this.right.destroy()]);
    fs.rmSync(this.directory, { recursive: true, force: true });
  }
}
