import koffi from "koffi";

const libc = koffi.load("libc.so.6");
const getenv: (name: string) => number = libc.func("getenv", "int64", ["str"]);
const strlen: (address: number) => number = libc.func("strlen", "int64", ["int64"]);
const memset: (address: number, byte: number, length: number) => number = libc.func("memset", "int64", [
  "int64",
  "int",
  "int64",
]);

/** Takes a variable out of this process's environment, and its value out of what /proc shows of it. */
export function eraseVariable(name: string): string | undefined {
  const value = process.env[name];
  // Deleting a variable only drops the pointer; the kernel goes on showing the bytes it was started with.
  const address = getenv(name);
  if (address !== 0) memset(address, 0, strlen(address));
  delete process.env[name];
  return value;
}
