package store

import "strings"

// All statements, in the SQL that SQLite and PostgreSQL share: $n placeholders, ON CONFLICT, RETURNING. The rows of list and
// tuples are numbered for PostgreSQL: see txn.

// Inventory.
const (
	sqlAddPlace = `INSERT INTO place (partition, account, region) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
	sqlPlaceID  = `SELECT id FROM place WHERE partition = $1 AND account = $2 AND region = $3`
	sqlAddKind  = `INSERT INTO kind (name) VALUES ($1) ON CONFLICT DO NOTHING`
	sqlKindID   = `SELECT id FROM kind WHERE name = $1`

	sqlAddMetric = `INSERT INTO evidence_metric (name) VALUES ($1) ON CONFLICT DO NOTHING`
	sqlMetricID  = `SELECT id FROM evidence_metric WHERE name = $1`
	sqlAddSpan   = `INSERT INTO evidence_span (started, period, slots) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
	sqlSpanID    = `SELECT id FROM evidence_span WHERE started = $1 AND period = $2 AND slots = $3`

	sqlInterruptScans = `UPDATE scan SET status = 'interrupted' WHERE status = 'running'`
	sqlBeginScan      = `INSERT INTO scan (started, finished, status, tool, config, window_seconds, stats)
		VALUES ($1, '', 'running', $2, $3, $4, '{}') RETURNING id`
	sqlFinishScan = `UPDATE scan SET finished = $2, status = $3, stats = $4 WHERE id = $1`
	sqlScans      = `SELECT id, started, finished, status, tool, config, window_seconds, stats FROM scan
		WHERE id >= $1 ORDER BY id`
	sqlLastScan = `SELECT id, started, finished, status, tool, config, window_seconds, stats FROM scan ORDER BY id DESC LIMIT 1`

	sqlPutAccount = `INSERT INTO account (partition, id, name, ou, ou_ids, status, tags, scan) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (partition, id) DO UPDATE SET name = excluded.name, ou = excluded.ou, ou_ids = excluded.ou_ids, status = excluded.status,
		tags = excluded.tags, scan = excluded.scan WHERE account.scan <= excluded.scan`
	sqlAccounts = `SELECT partition, id, name, ou, ou_ids, status, tags FROM account ORDER BY partition, id`
	sqlAccount  = `SELECT partition, id, name, ou, ou_ids, status, tags FROM account WHERE partition = $1 AND id = $2`

	// A list of names is appended: see list.
	sqlCurrent = `SELECT r.name, r.id, r.seen, v.valid_from, v.document, v.status, v.launched FROM resource r
		LEFT JOIN resource_version v ON v.resource = r.id AND v.valid_to IS NULL
		WHERE r.place = $1 AND r.kind = $2 AND r.name IN `
	sqlAddResources   = `INSERT INTO resource (place, kind, name, seen) VALUES `
	sqlResourceIDs    = `SELECT name, id FROM resource WHERE place = $1 AND kind = $2 AND name IN `
	sqlSeen           = `UPDATE resource SET seen = $1 WHERE id IN `
	sqlAddVersions    = `INSERT INTO resource_version (resource, valid_from, document, status, launched) VALUES `
	sqlCloseVersion   = `UPDATE resource_version SET valid_to = $3 WHERE resource = $1 AND valid_from = $2`
	sqlCorrectVersion = `UPDATE resource_version SET document = $3, status = $4, launched = $5
		WHERE resource = $1 AND valid_from = $2`
	sqlDocumentID  = `SELECT id FROM document WHERE place = $1 AND hash = $2`
	sqlAddDocument = `INSERT INTO document (place, hash, body) VALUES ($1, $2, $3) RETURNING id`

	sqlPutScope = `INSERT INTO scan_scope (place, kind, scan, status, class, detail, resources, at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (place, kind, scan) DO UPDATE SET status = excluded.status,
		class = excluded.class, detail = excluded.detail, resources = excluded.resources, at = excluded.at`
	sqlCloseGone = `UPDATE resource_version SET valid_to = $4 WHERE valid_to IS NULL AND resource IN
		(SELECT id FROM resource WHERE place = $1 AND kind = $2 AND seen < $3)`
	sqlTrimEvidence = `DELETE FROM evidence_window WHERE place = $1 AND source = $2 AND scan < $3`
	sqlTrimHistory  = `DELETE FROM evidence_history WHERE place = $1 AND source = $2 AND scan < $3`

	sqlPlaces = `SELECT partition, account, region FROM place ORDER BY partition, account, region`
	// The last scope of each kind; one of the place itself ('') counts while no later scan has entered the place.
	sqlScopes = `SELECT s.kind, s.status, s.class, s.detail, s.resources, s.at, s.scan FROM scan_scope s
		WHERE s.place = $1 AND s.scan = (SELECT max(n.scan) FROM scan_scope n
			WHERE n.place = s.place AND (n.kind = s.kind OR s.kind = ''))
		ORDER BY s.kind`
	sqlSnapshot = `SELECT k.name, r.name, r.seen, v.status, v.launched, v.document, d.body FROM resource r
		JOIN kind k ON k.id = r.kind
		JOIN resource_version v ON v.resource = r.id AND v.valid_to IS NULL
		JOIN document d ON d.id = v.document
		WHERE r.place = $1`
	// Current resources that the last closed scope of their kind did not see.
	sqlStale = `SELECT k.name, r.name, c.started FROM resource r
		JOIN kind k ON k.id = r.kind
		JOIN resource_version v ON v.resource = r.id AND v.valid_to IS NULL
		JOIN scan c ON c.id = r.seen
		WHERE r.place = $1 AND r.seen < (SELECT max(s.scan) FROM scan_scope s
			WHERE s.place = r.place AND s.kind IN (k.name, ''))
		ORDER BY k.name, r.name`

	// Of the windows, and of the long look back.
	sqlPutEvidence = `INSERT INTO evidence_window (` + evidenceColumns + `) VALUES `
	sqlPutHistory  = `INSERT INTO evidence_history (` + evidenceColumns + `) VALUES `
	sqlEvidence    = evidenceQuery + `evidence_window` + evidenceJoins + `evidence_window` + evidenceOrder
	sqlLookBack    = evidenceQuery + `evidence_history` + evidenceJoins + `evidence_history` + evidenceOrder

	evidenceColumns = `place, source, scan, resource, metric, span, total, last, data`
	evidenceQuery   = `SELECT k.name, r.name, e.source, m.name, p.started, p.period, p.slots, e.data FROM `
	evidenceJoins   = ` e
		JOIN resource r ON r.id = e.resource
		JOIN kind k ON k.id = r.kind
		JOIN evidence_metric m ON m.id = e.metric
		JOIN evidence_span p ON p.id = e.span
		WHERE e.place = $1 AND e.scan = coalesce(
			(SELECT max(s.scan) FROM scan_scope s WHERE s.place = e.place AND s.kind = e.source),
			(SELECT max(n.scan) FROM `
	evidenceOrder = ` n WHERE n.place = e.place AND n.source = e.source))
		ORDER BY e.source, e.resource, e.metric`

	sqlHistory = `SELECT k.name, r.name, r.id, v.valid_from, coalesce(v.valid_to, 0), v.status, v.launched, d.body
		FROM resource r
		JOIN kind k ON k.id = r.kind
		JOIN resource_version v ON v.resource = r.id
		JOIN document d ON d.id = v.document
		WHERE r.place = $1 AND (r.name = $2 OR $2 = '') AND (k.name = $3 OR $3 = '')
		ORDER BY r.id, v.valid_from`

	sqlDropPosture = `DELETE FROM posture_daily WHERE day = $1 AND place = $2`
	sqlPutPosture  = `INSERT INTO posture_daily (day, place, verdict, resources) VALUES ($1, $2, $3, $4)`
	sqlPosture     = `SELECT p.day, l.partition, l.account, l.region, p.verdict, p.resources FROM posture_daily p
		JOIN place l ON l.id = p.place WHERE p.day >= $1 AND p.day <= $2
		ORDER BY p.day, l.partition, l.account, l.region, p.verdict`
)

// Findings. Lists of digests and hashes, and tuples, are appended.
const (
	sqlAddImport = `INSERT INTO finding_import (source, origin, subject, findings, sample, replaced_by, body)
		VALUES ($1, $2, $3, 0, $4, 0, '') RETURNING id`
	sqlCloseImport = `UPDATE finding_import SET findings = $2, body = $3 WHERE id = $1`
	sqlImports     = `SELECT id, replaced_by, body FROM finding_import ORDER BY id`
	sqlDropImport  = `DELETE FROM finding_import WHERE id = $1`

	sqlKnownFiles  = `SELECT count(*) FROM finding_file WHERE source = $1 AND digest IN `
	sqlForgetFiles = `DELETE FROM finding_file WHERE source = $1 AND digest IN `
	sqlAddFiles    = `INSERT INTO finding_file (source, digest, import) VALUES `
	sqlDropFiles   = `DELETE FROM finding_file WHERE import = $1`

	sqlAddTexts   = `INSERT INTO finding_text (hash, text) VALUES `
	sqlTextIDs    = `SELECT hash, id FROM finding_text WHERE hash IN `
	sqlAddSubject = `INSERT INTO finding_subject (account, region, kind, name) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`
	sqlSubjectID  = `SELECT id FROM finding_subject WHERE account = $1 AND region = $2 AND kind = $3 AND name = $4`

	sqlPutFindings = `INSERT INTO finding (subject, import, what, product, version, detail, origin, hop_limit, day, calls, first, last)
		VALUES `
	sqlAddUp = ` ON CONFLICT (subject, import, what, product, version, detail, origin, hop_limit, day) DO UPDATE SET
		calls = finding.calls + excluded.calls,
		first = CASE WHEN excluded.first < finding.first THEN excluded.first ELSE finding.first END,
		last = CASE WHEN excluded.last > finding.last THEN excluded.last ELSE finding.last END`
	sqlCountFindings   = `SELECT count(*) FROM finding WHERE import = $1`
	sqlDropFindings    = `DELETE FROM finding WHERE import = $1`
	sqlReplaceFindings = `DELETE FROM finding WHERE subject = $1 AND import IN
		(SELECT id FROM finding_import WHERE source = $2 AND origin = $3 AND id <> $4)`
	// An import without anything left that held is replaced; so is one that found nothing of the same subject.
	sqlReplacedImports = `UPDATE finding_import SET replaced_by = $1 WHERE source = $2 AND origin = $3 AND id <> $1 AND replaced_by = 0
		AND (findings > 0 OR subject = $4) AND NOT EXISTS (SELECT 1 FROM finding f WHERE f.import = finding_import.id)`
	sqlReplacedFiles = `DELETE FROM finding_file WHERE import IN (SELECT id FROM finding_import WHERE replaced_by = $1)`

	sqlFindings = `SELECT s.account, s.region, s.kind, coalesce(n.text, ''), g.source, coalesce(w.text, ''), coalesce(p.text, ''),
		coalesce(v.text, ''), coalesce(d.text, ''), coalesce(o.text, ''), g.hop_limit, g.calls, g.first, g.last, g.sample = 1
		FROM (SELECT f.subject, i.source, i.sample, f.what, f.product, f.version, f.detail, f.origin, f.hop_limit, f.day,
				CAST(sum(f.calls) AS BIGINT) AS calls, min(f.first) AS first, max(f.last) AS last
			FROM finding_subject m JOIN finding f ON f.subject = m.id JOIN finding_import i ON i.id = f.import
			WHERE m.account = $1 OR m.account = ''
			GROUP BY f.subject, i.source, i.sample, f.what, f.product, f.version, f.detail, f.origin, f.hop_limit, f.day) g
		JOIN finding_subject s ON s.id = g.subject
		LEFT JOIN finding_text n ON n.id = s.name
		LEFT JOIN finding_text w ON w.id = g.what
		LEFT JOIN finding_text p ON p.id = g.product
		LEFT JOIN finding_text v ON v.id = g.version
		LEFT JOIN finding_text d ON d.id = g.detail
		LEFT JOIN finding_text o ON o.id = g.origin`
)

// Plans and approvals.
const (
	sqlPutPlan = `INSERT INTO plan (digest, header, path, recorded) VALUES ($1, $2, $3, $4)
		ON CONFLICT (digest) DO UPDATE SET path = excluded.path`
	sqlPlans       = `SELECT digest, header, path, recorded FROM plan ORDER BY recorded DESC, digest`
	sqlPlanDigests = `SELECT digest FROM plan WHERE substr(digest, 1, $2) = $1`
	sqlApprove     = `INSERT INTO approval (digest, actor, reason, at) VALUES ($1, $2, $3, $4)`
	sqlApprovals   = `SELECT digest, actor, reason, at FROM approval WHERE digest = $1 OR $1 = '' ORDER BY id`
)

// The journal.
const (
	sqlAddRollout = `INSERT INTO rollout (id, digest, header, status, reason, created, updated, approved, max_in_flight,
		max_in_flight_account, forgiven, control) VALUES ($1, $2, $3, $4, '', $5, $5, $6, $7, $8, 0, 1)`
	sqlRolloutOf = `SELECT id FROM rollout WHERE digest = $1`
	// Tuples are appended to these.
	sqlAddStacks  = `INSERT INTO stack (rollout, id, seq, place, body, phase, step, due, since, reason) VALUES `
	sqlAddChanges = `INSERT INTO change (rollout, id, seq, stack, step, ref, action, class, body) VALUES `
	sqlAddStates  = `INSERT INTO change_state (rollout, id, phase, wrote, outputs, attempt, reason, updated) VALUES `
	sqlAddItems   = `INSERT INTO plan_item (rollout, type, seq, body) VALUES `

	sqlHeader       = `SELECT header, digest FROM rollout WHERE id = $1`
	sqlStackBodies  = `SELECT body FROM stack WHERE rollout = $1 ORDER BY seq`
	sqlChangeBodies = `SELECT body FROM change WHERE rollout = $1 ORDER BY seq`
	sqlItemBodies   = `SELECT body FROM plan_item WHERE rollout = $1 AND type = $2 ORDER BY seq`

	sqlRollout  = `SELECT digest, status, reason, created, updated, approved, forgiven, control FROM rollout WHERE id = $1`
	sqlRollouts = `SELECT id, digest, status, reason, created, updated, approved FROM rollout ORDER BY created DESC, id`
	sqlStacks   = `SELECT id, phase, step, due, since, reason FROM stack WHERE rollout = $1`
	sqlStates   = `SELECT id, phase, wrote, outputs, attempt, reason, updated FROM change_state WHERE rollout = $1`
	sqlUndos    = `SELECT stack, who FROM undo WHERE rollout = $1`

	sqlWaves       = `SELECT wave, who FROM wave_approval WHERE rollout = $1`
	sqlAddWave     = `INSERT INTO wave_approval (rollout, wave, who) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
	sqlStopped     = `SELECT who FROM stop WHERE id = 1`
	sqlStop        = `INSERT INTO stop (id, who) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET who = excluded.who`
	sqlAllow       = `DELETE FROM stop WHERE id = 1`
	sqlBumpAll     = `UPDATE rollout SET control = control + 1`
	sqlStatuses    = `SELECT id, status FROM rollout ORDER BY created, id`
	sqlLockRollout = `SELECT id FROM rollout WHERE id = $1`

	// Manual changes, all of them and those that a person has spoken about.
	sqlManuals = `SELECT c.id, s.phase FROM change c JOIN change_state s ON s.rollout = c.rollout AND s.id = c.id
		WHERE c.rollout = $1 AND c.class = 'manual' ORDER BY c.seq`
	// CROSS has SQLite begin with the few that are manual.
	sqlManualsDone = `SELECT s.id, s.phase, s.wrote, s.outputs, s.attempt, s.reason, s.updated FROM change c
		CROSS JOIN change_state s WHERE c.rollout = $1 AND c.class = 'manual'
		AND s.rollout = c.rollout AND s.id = c.id AND s.phase IN ('verified', 'failed')`
	sqlManual = `SELECT c.class, c.stack, c.ref, c.action, s.phase FROM change c JOIN change_state s ON s.rollout = c.rollout AND s.id = c.id
		WHERE c.rollout = $1 AND c.id = $2`

	sqlStackPhases  = `SELECT phase, count(*) FROM stack WHERE rollout = $1 GROUP BY phase`
	sqlChangePhases = `SELECT phase, count(*) FROM change_state WHERE rollout = $1 GROUP BY phase`

	sqlStack      = `SELECT phase, step, due, since, reason, place FROM stack WHERE rollout = $1 AND id = $2`
	sqlMoveStack  = `UPDATE stack SET phase = $3, step = $4, due = $5, since = $6, reason = $7 WHERE rollout = $1 AND id = $2`
	sqlMoveStatus = `UPDATE rollout SET status = $2, reason = $3, updated = $4, control = control + 1 WHERE id = $1`
	sqlForgive    = `UPDATE rollout SET forgiven = (SELECT count(*) FROM stack WHERE rollout = $1 AND phase IN ('failed', 'stuck'))
		WHERE id = $1`
	sqlTouch       = `UPDATE rollout SET updated = $2 WHERE id = $1`
	sqlBumpControl = `UPDATE rollout SET control = control + 1, updated = $2 WHERE id = $1`
	sqlForgetUndo  = `DELETE FROM undo WHERE rollout = $1 AND stack = $2`
	sqlAddUndo     = `INSERT INTO undo (rollout, stack, who) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
	sqlUnstick     = `UPDATE change_state SET phase = 'verified', wrote = 1, updated = $3 WHERE rollout = $1 AND phase = 'stuck'
		AND id IN (SELECT id FROM change WHERE rollout = $1 AND stack = $2)`
	sqlStackList = `SELECT id, phase FROM stack WHERE rollout = $1 ORDER BY seq`

	sqlAdmissible = `SELECT c.stack, c.step, c.ref, c.action, c.class, s.phase, s.wrote, s.attempt, k.phase, k.step, r.status,
		r.max_in_flight, r.max_in_flight_account, r.digest, r.approved
		FROM change c
		JOIN change_state s ON s.rollout = c.rollout AND s.id = c.id
		JOIN stack k ON k.rollout = c.rollout AND k.id = c.stack
		JOIN rollout r ON r.id = c.rollout
		WHERE c.rollout = $1 AND c.id = $2`
	sqlOpenCount = `SELECT count(*), coalesce(sum(CASE WHEN change = $2 THEN 1 ELSE 0 END), 0),
		coalesce(sum(CASE WHEN account = $3 THEN 1 ELSE 0 END), 0) FROM intent WHERE rollout = $1 AND open = 1`
	sqlOpenHere  = `SELECT count(*) FROM intent WHERE rollout = $1 AND change = $2 AND open = 1`
	sqlAddIntent = `INSERT INTO intent (rollout, change, place, account, direction, attempt, token, epoch, opened, lease_until, open)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1) RETURNING id`
	sqlOpenState  = `UPDATE change_state SET phase = 'open', attempt = $3, updated = $4 WHERE rollout = $1 AND id = $2`
	sqlIntent     = `SELECT rollout, change, open FROM intent WHERE id = $1`
	sqlSettle     = `UPDATE intent SET open = 0 WHERE id = $1`
	sqlAddOutcome = `INSERT INTO outcome (intent, phase, wrote, outputs, request_id, class, reason, found, epoch, at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`
	sqlSetState = `UPDATE change_state SET phase = $3, wrote = CASE WHEN $4 = 1 THEN 1 ELSE wrote END,
		outputs = CASE WHEN $5 = '' THEN outputs ELSE $5 END, reason = $6, updated = $7 WHERE rollout = $1 AND id = $2`
	sqlChangeRef  = `SELECT ref, stack FROM change WHERE rollout = $1 AND id = $2`
	sqlOpenIntent = `SELECT id, change, place, direction, attempt, token, epoch, opened, lease_until FROM intent
		WHERE rollout = $1 AND change = $2 AND open = 1`
	sqlTries = `SELECT COUNT(*) FROM intent i JOIN outcome o ON o.intent = i.id
		WHERE i.rollout = ? AND i.change = ? AND i.direction = ? AND o.class NOT IN ` // the classes follow

	sqlAddLease = `INSERT INTO lease (key, holder, epoch, until, process, waiter, waits_until) VALUES ($1, '', 0, '', '', '', '')
		ON CONFLICT DO NOTHING`
	sqlLease    = `SELECT holder, epoch, until, process, waiter, waits_until FROM lease WHERE key = $1`
	sqlPutLease = `UPDATE lease SET holder = $2, epoch = $3, until = $4, process = $5,
		waiter = CASE WHEN waiter = $2 THEN '' ELSE waiter END WHERE key = $1`
	sqlWaitLease    = `UPDATE lease SET waiter = $2, waits_until = $3 WHERE key = $1`
	sqlRenewLease   = `UPDATE lease SET until = $4 WHERE key = $1 AND holder = $2 AND epoch = $3`
	sqlReleaseLease = `UPDATE lease SET holder = '', until = '', process = '' WHERE key = $1 AND holder = $2 AND epoch = $3`

	// Tuples are appended.
	sqlPost        = `INSERT INTO lane_order (rollout, subject, place, body, taken, closed, report) VALUES `
	sqlOutstanding = `SELECT body, closed FROM lane_order WHERE rollout = $1 ORDER BY id`
	sqlTake        = `SELECT o.id, o.body, c.body, s.id, s.phase, s.wrote, s.outputs, s.attempt, s.reason, s.updated FROM lane_order o
		LEFT JOIN change c ON c.rollout = o.rollout AND c.id = o.subject
		LEFT JOIN change_state s ON s.rollout = o.rollout AND s.id = o.subject
		WHERE o.place = $1 AND o.closed = 0 AND o.taken <> $2 ORDER BY o.id LIMIT $3`
	sqlTaken   = `UPDATE lane_order SET taken = $1 WHERE id IN `
	sqlClose   = `UPDATE lane_order SET closed = 1, report = $4 WHERE rollout = $1 AND subject = $2 AND place = $3 AND closed = 0`
	sqlOrdered = `SELECT count(*) FROM lane_order WHERE rollout = $1 AND subject = $2 AND place = $3`
	sqlClosed  = `SELECT o.id, o.report, s.id, s.phase, s.wrote, s.outputs, s.attempt, s.reason, s.updated FROM lane_order o
		LEFT JOIN change_state s ON s.rollout = o.rollout AND s.id = o.subject
		WHERE o.rollout = $1 AND o.closed = 1 ORDER BY o.id`
	sqlCollected = `DELETE FROM lane_order WHERE id IN `

	sqlHead     = `SELECT seq, hash FROM event_head WHERE rollout = $1 AND chain = $2`
	sqlHeads    = `SELECT rollout, chain, seq, hash FROM event_head WHERE rollout = $1 OR $1 = '' ORDER BY rollout, chain`
	sqlAddHead  = `INSERT INTO event_head (rollout, chain, seq, hash) VALUES ($1, $2, 0, $3) ON CONFLICT DO NOTHING`
	sqlSetHead  = `UPDATE event_head SET seq = $3, hash = $4 WHERE rollout = $1 AND chain = $2`
	sqlAddEvent = `INSERT INTO event (rollout, chain, seq, at, name, stack, change, actor, reason, detail, prev_hash, hash)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`
	sqlEvents = `SELECT id, rollout, chain, seq, at, name, stack, change, actor, reason, detail, prev_hash, hash FROM event
		WHERE (rollout = $1 OR $1 = '') AND id > $2 AND id <= $3 ORDER BY id LIMIT $4`
	sqlLastEvent = `SELECT coalesce(max(id), 0) FROM event`
	sqlChained   = `SELECT id, rollout, chain, seq, at, name, stack, change, actor, reason, detail, prev_hash, hash FROM event
		WHERE rollout = $1 OR $1 = '' ORDER BY rollout, chain, seq`
)

// What only PostgreSQL is asked.
const (
	pgLock       = `SELECT pg_advisory_xact_lock($1)`
	pgLockShared = `SELECT pg_advisory_xact_lock_shared($1)`
	// A row for each transaction that a process may have under way. It is written first in each; a second attempt at a
	// transaction whose end is not known waits here for the first, and finds its number where that was committed.
	pgMark = `INSERT INTO commit_mark (writer, n, at) VALUES ($1, $2, now()) ON CONFLICT (writer) DO UPDATE SET n = excluded.n, at = now()
		WHERE commit_mark.n <> excluded.n`
	pgUnmark    = `DELETE FROM commit_mark WHERE writer LIKE $1 || '/%'`
	pgOldMarks  = `DELETE FROM commit_mark WHERE at < now() - interval '7 days'`
	pgSessions  = `SELECT set_config('idle_in_transaction_session_timeout', $1, false), set_config('lock_timeout', $2, false)`
	pgDurable   = `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`
	pgPatient   = `SELECT set_config('idle_in_transaction_session_timeout', '0', true)`
	pgNow       = `SELECT clock_timestamp()`
	pgSize      = `SELECT pg_database_size(current_database())`
	pgTables    = `SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'`
	pgOurs      = `SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = $1`
	pgMakeOrder = `SELECT pg_advisory_lock($1)`
	pgMadeOrder = `SELECT pg_advisory_unlock($1)`
)

// batch is how many rows one statement writes or looks up.
const batch = 100

// list gives "(?,…)" for n placeholders. They are not numbered as those of the statements are, which SQLite goes through one
// by one for each: a statement with hundreds takes longer to read than to carry out.
func list(n int) string { return "(" + strings.Repeat("?,", n-1) + "?)" }

// tuples gives "(?,?),(?,?)…" for n rows of width columns.
func tuples(n, width int) string {
	row := list(width)
	return strings.Repeat(row+",", n-1) + row
}
