import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { STEPS } from "../../host/lab/scenario.ts";
import { ADDRESSES } from "../../host/lab/topology.ts";
import { TestLab } from "./lab-harness.ts";

const NAME = "moving.private.test";
/** tunnel-core §14.3: an entry goes 5 s after the last packet once both sides have sent FIN; then a tick. */
const NAT_FIN_MS = 5000 + 1500;

for (const udp of ["native", "portable"] as const) {
  describe(`client, gateway, relay and portal with ${udp} sockets`, () => {
    let lab: TestLab;
    before(async () => {
      lab = await TestLab.start({
        udp,
        records: {
          "web.private.test": [ADDRESSES.namedWeb.v4, ADDRESSES.namedWeb.v6],
          [NAME]: [ADDRESSES.namedWeb.v4],
        },
      });
    });
    after(() => lab.finish());

    for (const { title, run } of STEPS) {
      test(title, async () => {
        assert.notEqual(await run(lab.lab), "");
      });
    }

    test("a name that is no resource is answered by the resolver the system had before", async () => {
      assert.deepEqual(await lab.resolve("public.test"), [ADDRESSES.publicWeb.v4]);
    });

    test("a changed record moves new connections at once and leaves open ones where they are (tunnel-core 17.4)", async () => {
      const [proxy = ""] = await lab.resolve(NAME);
      assert.match(proxy, /^100\.96\./);
      const old = lab.echo(proxy, 40001);
      await old.outputs(/connected/);
      old.writeLine("one");
      await old.outputs(new RegExp(`${ADDRESSES.namedWeb.v4} one`));

      lab.lab.setRecords({ [NAME]: [ADDRESSES.namedWebMoved.v4] });
      // Asking again makes the gateway resolve again; the answer itself does not change.
      assert.deepEqual((await lab.resolve(NAME))[0], proxy);
      const fresh = await reached(lab, proxy, ADDRESSES.namedWebMoved.v4);
      old.writeLine("two");
      await old.outputs(new RegExp(`${ADDRESSES.namedWeb.v4} two`));

      old.writeLine("quit");
      await old.outputs(/closed/);
      await new Promise((resolve) => setTimeout(resolve, NAT_FIN_MS));
      const again = lab.echo(proxy, 40001);
      await again.outputs(/connected/);
      again.writeLine("three");
      await again.outputs(new RegExp(`${ADDRESSES.namedWebMoved.v4} three`));
      await Promise.all([fresh.stop(), again.stop()]);
    });
  });
}

/** New connections until one is at the wanted server: the gateway resolves while we connect. */
async function reached(lab: TestLab, proxy: string, server: string) {
  for (let attempt = 0; ; attempt++) {
    const connection = lab.echo(proxy);
    await connection.outputs(/connected/);
    connection.writeLine("where");
    const [, address] = await connection.outputs(/([0-9.]+) where/);
    if (address === server) return connection;
    assert.ok(attempt < 10, `new connections still go to ${address}`);
    await connection.stop();
  }
}
