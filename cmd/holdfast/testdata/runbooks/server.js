'use strict'
// The application of the stories: it is healthy when both of its databases answer.
const { execFile } = require('child_process')
const run = (program, args) => new Promise((resolve, reject) =>
  execFile(program, args, { timeout: 5000 }, (error, out, said) => error ? reject(new Error(said.trim().split('\n')[0] || error.message)) : resolve(out.trim())))
require('http').createServer(async (request, response) => {
  try {
    const users = await run('psql', ['-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', process.env.DATABASE_URL, '-c', 'SELECT count(*) FROM app.users'])
    const settings = await run('sqlite3', ['-bail', 'db/auth.db', 'SELECT count(*) FROM settings'])
    response.end(JSON.stringify({ database: 'ok', users: Number(users), settings: Number(settings), session: Boolean(process.env.SESSION_SECRET) }) + '\n')
  } catch (error) {
    response.statusCode = 503
    response.end(JSON.stringify({ database: 'down', why: error.message }) + '\n')
  }
}).listen(process.env.PORT, '127.0.0.1', () => console.log('listening'))
