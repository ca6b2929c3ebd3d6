// A room on Node's socket.io; tuned: WebSocket only, no compression.
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer((_, answer) => answer.end("ok"));
const server = new Server(http, {
  transports: ["websocket"],
  perMessageDeflate: false,
  pingInterval: 3_600_000,
  serveClient: false,
});

server.on("connection", (socket) => {
  if (socket.handshake.query.role === "sub") socket.join("room");
  socket.on("say", (data) => server.to("room").emit("said", data));
});
http.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 2048 });
