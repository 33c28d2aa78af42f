// A server of Fluentd's forward protocol that stores what it takes before it confirms it, as Fluentd with a file buffer does.
// node server.js <folder of node_modules> <port> <file for ids> <shared key or ''> <certificate or ''> <its key or ''> <user or ''> <password or ''>
const fs = require("fs");
const path = require("path");
const [modules, port, file, sharedKey, cert, key, user, password] = process.argv.slice(2);
const home = path.join(modules, "@fluent-org/logger/build/src");
const protocol = require(path.join(home, "protocol"));
const {FluentServer} = require(path.join(home, "server"));
const disk = fs.openSync(file, "a");
const parse = protocol.parseTransport;
protocol.parseTransport = message => {
  const decoded = parse(message);
  const lines = decoded.entries.map(([time, record]) => JSON.stringify([decoded.tag, record.id ?? null, record])).join("\n");
  fs.writeSync(disk, lines + "\n");
  return decoded;
};
const security = sharedKey && {serverHostname: "logs", sharedKey, authorize: !!user, userDict: user ? {[user]: password} : undefined};
const tlsOptions = cert && {cert: fs.readFileSync(cert), key: fs.readFileSync(key)};
new FluentServer({
  listenOptions: {port: Number(port), host: "127.0.0.1"},
  ...(security && {security}),
  ...(tlsOptions && {tlsOptions}),
}).listen();
