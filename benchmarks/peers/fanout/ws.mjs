// A room on npm's `ws`, as its documentation shows it: one send a client.
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const http = createServer((_, answer) => answer.end("ok"));
const sockets = new WebSocketServer({ server: http, perMessageDeflate: false });
const listeners = new Set();

sockets.on("connection", (socket, request) => {
  if (request.url === "/sub") {
    listeners.add(socket);
    socket.on("close", () => listeners.delete(socket));
    return;
  }
  socket.on("message", (data) => {
    for (const each of listeners) each.send(data, { binary: false });
  });
});
http.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 2048 });
