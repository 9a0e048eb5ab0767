package rollback

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	adminv1 "keyward.dev/proto/gen/keyward/admin/v1"

	"keyward.dev/controlplane/cmd/keyward/internal/cli/difference"
	"keyward.dev/controlplane/cmd/keyward/internal/failure"
)

var errNotConfirmed = errors.New("not confirmed; nothing was changed")

// confirm shows what would change and asks. What was shown is what will be done: req comes to demand the revision it was
// worked out for. If nothing would change there is nothing to ask, and it says so by answering false.
func (o *Options) confirm(ctx context.Context, client adminv1.ResourceServiceClient, req *adminv1.RollbackRequest) (goOn bool, err error) {
	dry := proto.CloneOf(req)
	dry.DryRun = true
	res, err := o.call(ctx, client, dry)
	if err != nil {
		return false, err
	}
	if !res.GetChanged() {
		return false, o.print(res)
	}
	io := o.Factory.IO
	if err := difference.Names(io, io.Err, res.GetChanges(), true); err != nil {
		return false, err
	}
	difference.Warn(io, res.GetWarnings())
	fmt.Fprintf(io.Err, "roll group %s back from revision %d to %d? [y/N] ", res.GetGroup(), res.GetRevision(), o.To)
	line, err := bufio.NewReader(io.In).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		if err != nil {
			io.Say("") // the question's line was not ended
		}
		return false, failure.Hint(errNotConfirmed, "answer y, or say --yes")
	}
	req.IfRevision = res.GetRevision()
	return true, nil
}
