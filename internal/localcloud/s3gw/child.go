package s3gw

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/s3api/middlewares"
)

// childMarker is the environment variable that makes this binary a server.
const childMarker = "S3FERRY_S3GW_CHILD"

const (
	maxParts    = 10_000
	maxCopySize = 5 << 30 // bytes
	maxRequests = 4096    // under way at once

	// drainTimeout bounds the wait for connections at the end. Idle ones close
	// at once, but one that never carried a request would be waited for.
	drainTimeout = 2 * time.Second

	// flushTimeout bounds the last attempt to send what events are left.
	flushTimeout = 5 * time.Second
)

// childAnswer is the one line on standard output with which a child says that
// it listens, or why it cannot.
type childAnswer struct {
	Error string `json:"error,omitempty"`
}

// IsChild reports whether this process is a server's child and must call Main.
func IsChild() bool { return os.Getenv(childMarker) != "" }

// Main runs a server as told on standard input, until SIGTERM or until that
// input ends, which is when the parent is gone. It returns the exit code.
func Main() int {
	answers := os.Stdout
	if err := serve(os.Stdin, func(a childAnswer) { _ = json.NewEncoder(answers).Encode(a) }); err != nil {
		slog.Error("S3 server ended", "error", err)
		return 1
	}
	return 0
}

func serve(stdin io.Reader, answer func(childAnswer)) error {
	// An interrupt from the keyboard reaches the whole process group. The
	// parent may still need this server, and ends it in its own time.
	signal.Ignore(os.Interrupt)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	var cfg Config
	if err := json.NewDecoder(stdin).Decode(&cfg); err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		stop()
	}()

	g, err := open(cfg, func() { answer(childAnswer{}) })
	if err != nil {
		answer(childAnswer{Error: err.Error()})
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- g.api.ServeMultiPort([]string{address(cfg.Port)}) }()
	select {
	case err := <-failed:
		answer(childAnswer{Error: fmt.Sprint(err)})
		return err
	case <-ctx.Done():
		g.close()
		return nil
	}
}

// gateway is versitygw over one directory.
type gateway struct {
	api     *s3api.S3ApiServer
	backend *posix.Posix
	events  *notifier
}

func open(cfg Config, listening func()) (*gateway, error) {
	quiet()
	data, versions, attributes := filepath.Join(cfg.Dir, "data"), filepath.Join(cfg.Dir, "versions"), filepath.Join(cfg.Dir, "attributes")
	for _, dir := range []string{data, versions, attributes} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make the server's directories: %w", err)
		}
	}
	metadata, err := newAttributes(attributes, data)
	if err != nil {
		return nil, fmt.Errorf("open the metadata: %w", err)
	}
	if err := recoverUploads(data, metadata); err != nil {
		return nil, err
	}
	files, err := posix.New(data, metadata, posix.PosixOpts{
		VersioningDir:       versions,
		CopyObjectThreshold: maxCopySize,
		// Unnamed temporary files are given a longer name beside the object
		// when they replace it: listings show it, and long keys have no room.
		ForceNoTmpFile: true,
	})
	if err != nil {
		return nil, fmt.Errorf("open the objects: %w", err)
	}
	g := &gateway{backend: files}
	if cfg.EventBucket != "" {
		if g.events, err = newNotifier(cfg); err != nil {
			return nil, err
		}
	}
	root := middlewares.RootUserConfig{Access: cfg.AccessKeyID, Secret: cfg.SecretAccessKey}
	g.api, err = s3api.New(
		&store{Backend: files, events: g.events}, root, cfg.Region,
		newAccounts(auth.Account{Access: root.Access, Secret: root.Secret, Role: auth.RoleAdmin}),
		nil, nil, nil, nil,
		s3api.WithQuiet(), s3api.WithKeepAlive(), s3api.WithOnListen(listening),
		s3api.WithMpMaxParts(maxParts), s3api.WithConcurrencyLimiter(maxRequests, maxRequests),
		s3api.WithMiddleware("/", refuseMisfits),
	)
	if err != nil {
		return nil, fmt.Errorf("set up the S3 API: %w", err)
	}
	return g, nil
}

func (g *gateway) close() {
	drained := make(chan struct{})
	go func() {
		_ = g.api.ShutDown() // its only error is that connections are left
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(drainTimeout):
	}
	if g.events != nil {
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		g.events.close(ctx)
	}
	g.backend.Shutdown()
}

// quiet drops what versitygw prints; its errors go to standard error.
func quiet() {
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		os.Stdout = null
	}
}

// recoverUploads makes multipart uploads whole again that a killed server was
// about to complete, and removes what it had not finished writing.
func recoverUploads(data string, metadata meta.MetadataStorer) error {
	root := os.DirFS(data)
	for _, pattern := range []string{
		path.Join("*", posix.MetaTmpDir, "*"),
		path.Join("*", posix.MetaTmpMultipartDir, "*", "*"),
	} {
		names, err := fs.Glob(root, pattern)
		if err != nil {
			return fmt.Errorf("look for unfinished writes: %w", err)
		}
		for _, name := range names {
			if err := recoverUpload(data, name, metadata); err != nil {
				return fmt.Errorf("recover %s: %w", name, err)
			}
		}
	}
	return nil
}

// recoverUpload takes back the claim on an upload's directory, whose name begins
// with the upload ID and a dot, and removes files that have no name yet.
func recoverUpload(data, name string, metadata meta.MetadataStorer) error {
	info, err := os.Stat(filepath.Join(data, name))
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return os.Remove(filepath.Join(data, name))
	}
	if !strings.HasSuffix(name, ".inprogress") {
		return nil
	}
	uploadID, _, _ := strings.Cut(path.Base(name), ".")
	reopened := path.Join(path.Dir(name), uploadID)
	if err := os.Rename(filepath.Join(data, name), filepath.Join(data, reopened)); err != nil {
		return err
	}
	bucket, claimed, _ := strings.Cut(name, "/")
	return metadata.RenameObject(bucket, claimed, path.Join(path.Dir(claimed), uploadID))
}
