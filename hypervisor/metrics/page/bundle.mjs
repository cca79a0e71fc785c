// node bundle.mjs SOURCE OUTPUT.html OUTPUT.policy: src/ and the libraries of ./node_modules become one file that asks for
// nothing but live.json, and the Content-Security-Policy that allows just that. Runs in a directory that has node_modules.
import {createHash} from 'node:crypto';
import {createRequire} from 'node:module';
import {readFileSync, writeFileSync} from 'node:fs';
import {join, resolve} from 'node:path';

const [source, output, policyOutput] = process.argv.slice(2);
const modules = resolve('node_modules');
const {buildSync} = createRequire(join(modules, 'x'))('esbuild');
const common = {bundle: true, write: false, minify: true, legalComments: 'inline', nodePaths: [modules], logLevel: 'warning',
                target: ['chrome110', 'firefox115', 'safari16.4']};
const built = (options) => buildSync({...common, ...options}).outputFiles[0].text.trim();

const license = readFileSync(join(modules, 'uplot/LICENSE'), 'utf8').trim();
const banner = `/* with uPlot:\n${license.replaceAll('*/', '* /')} */\n`;
// `</` cannot end a script or a style early.
const script = banner + built({entryPoints: [join(source, 'src/main.js')], format: 'iife'}).replaceAll('</', '<\\/');
const style = `${built({stdin: {contents: '@import "uplot/dist/uPlot.min.css"; @import "./src/style.css";', loader: 'css', resolveDir: source}})}`;
if (style.includes('</')) throw new Error('the style sheet has an end tag');

const hash = (text) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
const policy = ["default-src 'none'", "connect-src 'self'", 'img-src data:', `script-src ${hash(script)}`, `style-src ${hash(style)}`,
                "base-uri 'none'", "form-action 'none'"].join('; ');
const parts = {policy, style, script};
const html = readFileSync(join(source, 'src/index.html'), 'utf8').replace(/@(policy|style|script)@/g, (_, name) => parts[name]);
if (/(?:src|href|url\()\s*=?\s*["']?(?:https?:)?\/\//i.test(html.replace(banner, ''))) throw new Error('the page names another host');
writeFileSync(output, html);
writeFileSync(policyOutput, `${policy}; frame-ancestors 'none'`);
