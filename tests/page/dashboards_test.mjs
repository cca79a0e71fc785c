// node dashboards_test.mjs METRICS_DIRECTORY WARMFORK PROMTOOL
// Dashboards and rules ask only for metrics that warmfork has, with the labels these have, in expressions that Prometheus
// reads. Exit: 0 all well, 1 not.
import assert from 'node:assert/strict';
import {execFileSync} from 'node:child_process';
import {mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';

const [directory, warmfork, promtool] = process.argv.slice(2);
const SUFFIXES = {histogram: ['_bucket', '_sum', '_count', ''], counter: [''], gauge: ['']};

/** Name in an expression -> labels it may have, from the table that the binary prints. */
const known = new Map([['up', new Set()]]);
for (const line of execFileSync(warmfork, ['metrics'], {encoding: 'utf8'}).split('\n')) {
  const match = /^\| `([a-z0-9_]+)` \| (counter|gauge|histogram) \| ([^|]*) \|/.exec(line);
  if (!match) continue;
  const labels = [...match[3].matchAll(/`([a-z0-9_]+)`/g)].map(([, label]) => label);
  for (const suffix of SUFFIXES[match[2]]) known.set(match[1] + suffix, new Set(suffix === '_bucket' ? [...labels, 'le'] : labels));
}
assert.ok(known.size > 30, `warmfork metrics lists ${known.size} names`);

/** Expressions of a rule file, by a reader for what these files are: `expr:` with the rest of the line or a block. */
function rules(file) {
  const lines = readFileSync(file, 'utf8').split('\n');
  const result = [];
  lines.forEach((line, i) => {
    const match = /^(\s*)(?:- )?expr: (.*)$/.exec(line);
    if (!match) return;
    let expr = match[2];
    if (expr === '>-') {
      expr = '';
      for (let j = i + 1; lines[j]?.startsWith(`${match[1]}  `); ++j) expr += ` ${lines[j].trim()}`;
    }
    result.push({where: `${file}:${i + 1}`, expr});
  });
  assert.equal(result.length, lines.filter((line) => /^\s*- (record|alert): /.test(line)).length, file);
  return result;
}
const recording = join(directory, 'prometheus/recording.yml');
for (const [, name] of readFileSync(recording, 'utf8').matchAll(/- record: (\S+)/g)) known.set(name, new Set(name.split(':')[0].split('_')));
const expressions = [...rules(recording), ...rules(join(directory, 'prometheus/alerts.yml'))];

for (const file of readdirSync(join(directory, 'grafana/dashboards'))) {
  const dashboard = JSON.parse(readFileSync(join(directory, 'grafana/dashboards', file), 'utf8'));
  const variables = dashboard.templating.list.map(({name}) => name);
  assert.equal(new Set(dashboard.panels.map(({id}) => id)).size, dashboard.panels.length, `${file}: two panels with one id`);
  const taken = new Set();
  for (const {title, type, datasource, gridPos: {x, y, w, h}, targets = []} of dashboard.panels) {
    assert.ok(x >= 0 && x + w <= 24, `${file}: ${title} is wider than the grid`);
    for (let i = x; i < x + w; ++i) {
      for (let j = y; j < y + h; ++j) {
        assert.ok(!taken.has(`${i} ${j}`), `${file}: ${title} lies on another panel`);
        taken.add(`${i} ${j}`);
      }
    }
    if (type === 'row') continue;
    assert.equal(datasource.uid, '${datasource}', `${file}: ${title}`);
    assert.ok(targets.length > 0, `${file}: ${title} asks for nothing`);
    for (const {expr, refId} of targets) expressions.push({where: `${file}: ${title} ${refId}`, expr});
  }
  for (const {definition} of dashboard.templating.list) {
    if (definition) expressions.push({where: `${file}: variable`, expr: /label_values\((\w+), \w+\)/.exec(definition)[1]});
  }
  for (const {where, expr} of expressions.filter((each) => each.where.startsWith(file))) {
    for (const [, name] of expr.matchAll(/\$(\w+)/g)) assert.ok([...variables, '__rate_interval'].includes(name), `${where}: no variable ${name}`);
  }
}

const FROM_PROMETHEUS = new Set(['instance', 'job']);
for (const {where, expr} of expressions) {
  const plain = expr.replace(/"[^"]*"/g, '""').replace(/\$\w+/g, '');
  const names = [...plain.matchAll(/\b(?:up|[a-z_]*:?(?:warmfork|process)_[a-z0-9_]+(?::[a-z0-9_]+)?)\b(?!\s*\()/g)].map(([name]) => name);
  assert.ok(names.length > 0, `${where}: no metric in ${expr}`);
  const labels = new Set();
  for (const name of names) {
    assert.ok(known.has(name), `${where}: warmfork has no metric ${name}`);
    for (const label of known.get(name)) labels.add(label);
  }
  for (const [, list] of plain.matchAll(/\b(?:by|on|group_left)\s*\(([^)]*)\)/g)) {
    for (const label of list.split(',').map((each) => each.trim())) assert.ok(labels.has(label) || FROM_PROMETHEUS.has(label), `${where}: no label ${label}`);
  }
  for (const [, name, list] of plain.matchAll(/([a-z0-9_:]+)\{([^}]*)\}/g)) {
    for (const [, label] of list.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)) assert.ok(known.get(name).has(label) || FROM_PROMETHEUS.has(label), `${where}: ${name} has no label ${label}`);
  }
}

const work = mkdtempSync(join(tmpdir(), 'warmfork-dashboards-'));
try {
  const text = expressions.map(({expr}, i) => `      - record: e${i}\n        expr: ${JSON.stringify(expr.replaceAll('$__rate_interval', '1m').replaceAll('$instance', '.*'))}\n`).join('');
  writeFileSync(join(work, 'all.yml'), `groups:\n  - name: all\n    rules:\n${text}`);
  execFileSync(promtool, ['check', 'rules', join(work, 'all.yml')], {stdio: 'pipe', encoding: 'utf8'});
} catch (error) {
  assert.fail(`promtool: ${error.stderr ?? error}`);
} finally {
  rmSync(work, {recursive: true});
}
console.log(`${expressions.length} expressions ask for what warmfork has`);
