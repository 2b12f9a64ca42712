// Reads requests (a JSON array of base64 on stdin), each on a connection of its own, with Node's own HTTP parser (llhttp,
// strict as it is by default). Prints a JSON array: what was read of each, or null where it was refused or is not complete.
import http from "node:http";
import net from "node:net";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { tmpdir } from "node:os";

const folder = mkdtempSync(join(tmpdir(), "reads-"));
const path = join(folder, "socket");
let read = null;

const server = http.createServer({ maxHeaderSize: 64 * 1024, keepAliveTimeout: 0 }, (request, response) => {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("error", () => {});
  request.on("end", () => {
    read = { method: request.method, target: request.url, body: Buffer.concat(pieces).toString("base64") };
    response.end("ok");
  });
});
server.on("clientError", (_error, socket) => socket.destroy());

const one = (bytes) =>
  new Promise((done) => {
    read = null;
    const socket = net.connect(path, () => socket.write(bytes));
    let said = "";
    const end = () => {
      clearTimeout(timer);
      socket.destroy();
      done(read);
    };
    const timer = setTimeout(end, 300);
    socket.on("data", (piece) => {
      said += piece.toString("latin1").replace("HTTP/1.1 100 Continue\r\n\r\n", "");
      if (said.includes("\r\n\r\n")) end();
    });
    socket.on("error", () => {});
    socket.on("close", end);
  });

await new Promise((ready) => server.listen(path, ready));
const all = [];
for (const request of JSON.parse(readFileSync(0, "utf8"))) all.push(await one(Buffer.from(request, "base64")));
rmSync(folder, { recursive: true });
process.stdout.write(JSON.stringify(all), () => process.exit(0));
