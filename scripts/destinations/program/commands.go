package program

import (
	"context"
	"flag"

	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/topology"
)

// command is one thing that the program does.
type command struct {
	name     string
	argument string // "FILE", "ID", "N" or ""
	about    string // one line
	help     string
	aws      bool // it needs the registry
	flags    func(*options, *flag.FlagSet, config.Lookup)
	run      func(*call, context.Context) error
}

// commands gives all of them, in the order in which they are listed.
func commands() []command {
	return []command{
		{
			name: "validate", argument: "FILE", about: "check a file, without AWS", run: (*call).validate,
			help: `
Checks a destinations file and tells everything that is wrong with it, by file, line, column and field, with what to write instead. It calls
nobody. A file that passes can be applied; whether its secrets exist is checked then.`,
			flags: func(o *options, f *flag.FlagSet, _ config.Lookup) {
				f.BoolVar(&o.schema, "schema", false, "print the JSON Schema of destinations files, for editors, in place of checking one")
			},
		},
		{
			name: "diff", argument: "FILE", about: "what applying the file would change", aws: true, run: (*call).diff,
			help: `
Shows which destinations applying the file would add, remove or change, with the names of the fields that differ and no values. The exit
status is 0 if there are none, 3 if there are.`,
		},
		{
			name: "apply", argument: "FILE", about: "make the file the destinations in force", aws: true, run: (*call).apply, flags: applyFlags,
			help: `
Shows the difference, asks, and makes the file the destinations in force: all of them, so what the file does not name is removed. It is applied
only if nobody has applied another one since the difference was taken. Secrets of destinations that are added or changed are looked up first: one
that does not exist or cannot sign stops it; one that you may not read is a warning, because it is the deliverer that reads it. Paused and
disabled destinations stay so.`,
		},
		{
			name: "list", about: "the destinations in force, and which are paused, disabled, failing or slow", aws: true, run: (*call).list,
			help: `
Lists the destinations in force with their states: whether one is paused or disabled, since when and by whom; whether it fails, so that its deliveries
are held, or asks to be left alone; whether it is slow; and who has resumed or enabled it in the last 90 days. Destinations that were removed and are
paused or disabled still are listed too.`,
			flags: func(o *options, f *flag.FlagSet, _ config.Lookup) { f.BoolVar(&o.json, "json", false, "as JSON") },
		},
		{
			name: "pause", argument: "ID", about: "hold the deliveries of a destination", aws: true, run: (*call).pause,
			help: `
Pauses a destination: its deliveries are held, without an attempt, until it is resumed, at most for 14 days. Pausing what is paused changes
nothing; the earlier note stays.`,
			flags: func(o *options, f *flag.FlagSet, _ config.Lookup) {
				f.StringVar(&o.note, "note", "", "why, in `words`, for whoever finds it paused")
				f.BoolVar(&o.force, "force", false, "even if no such destination is in force, as for one that was removed and still has deliveries")
			},
		},
		{
			name: "resume", argument: "ID", about: "let a paused destination receive again", aws: true, run: (*call).resume, flags: forceFlag,
			help: `
Resumes a paused destination: what was held is delivered, oldest first. One that is disabled too stays disabled.`,
		},
		{
			name: "enable", argument: "ID", about: "let a destination receive again that had answered 410", aws: true, run: (*call).enable, flags: forceFlag,
			help: `
Enables a destination that was disabled because it answered 410 Gone: what was held is delivered, oldest first. One that is paused too stays
paused. If it answers 410 again, it is disabled again.`,
		},
		{
			name: "ping", argument: "ID", about: "send one signed test event straight to a destination", aws: true, run: (*call).ping,
			help: `
Sends one event of the type waybill.ping to a destination, signed as a delivery is and by the same code, and tells what came of it and what that
would mean for a delivery. Nothing else happens: no queue, no ledger, no retry, and a 410 disables nothing. The pattern is not looked at, and a
destination that is paused or disabled is called too. It is sent from this machine, whose way to the destination may be another than AWS
Lambda's. The exit status is 0 only if it was delivered.`,
			flags: func(o *options, f *flag.FlagSet, lookup config.Lookup) {
				allow, _ := lookup(topology.EgressAllowVariable)
				f.StringVar(&o.file, "file", "", "a destination of this `file` in place of one in force, to try it before it is applied")
				f.StringVar(&o.egressAllow, "egress-allow", allow, "what may be reached besides public addresses: `CIDRs`, addresses or the word loopback,\n"+
					"separated by commas (default $"+topology.EgressAllowVariable+")")
				f.BoolVar(&o.body, "body", false, "show the first characters of the answer's body, which may repeat what was sent")
			},
		},
		{
			name: "history", about: "the versions that are kept", aws: true, run: (*call).history,
			help: `
Lists the versions that were applied and are kept, the one in force first.`,
		},
		{
			name: "rollback", argument: "N", about: "apply version N again", aws: true, run: (*call).rollback, flags: applyFlags,
			help: `
Applies again what version N held, as a new version, in the way that apply does.`,
		},
	}
}

func applyFlags(o *options, f *flag.FlagSet, _ config.Lookup) {
	f.BoolVar(&o.yes, "yes", false, "do not ask")
	f.BoolVar(&o.checkSecrets, "check-secrets", true, "look up the secrets of destinations that are added or changed")
	f.BoolVar(&o.force, "force", false, "even if what is in force cannot be read, and so cannot be compared")
}

func forceFlag(o *options, f *flag.FlagSet, _ config.Lookup) {
	f.BoolVar(&o.force, "force", false, "even if no such destination is known")
}
