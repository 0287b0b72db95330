// Package s3gw runs the laptop cloud's S3 servers: versitygw, an S3 server that
// keeps objects as files, in one child process each, because its file backend
// takes over the working directory of its process.
//
// The child is the same binary again. A program that calls Start must begin
// with
//
//	if s3gw.IsChild() {
//		os.Exit(s3gw.Main())
//	}
//
// and so must the TestMain of its tests. Every child ends with its parent,
// however the parent ends.
//
// What S3 takes and this server cannot hold is refused with an error that names
// the key and the reason: keys with empty, "." or ".." segments, segments over
// 255 bytes, a key that ends in a slash with data, and "x" beside "x/y". On a
// file system that does not tell case or Unicode forms apart, neither does this
// server. Listings give every object the storage class STANDARD.
package s3gw

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Bucket is a bucket that a server has from its start.
type Bucket struct {
	Name      string
	Versioned bool
}

// Config describes one server. It holds secrets: it goes to the child through a
// pipe, never through its arguments or environment.
type Config struct {
	// Dir is an absolute directory for data, versions, metadata and unsent
	// events. It outlives the server and serves one at a time.
	Dir  string
	Port int // on 127.0.0.1; zero picks a free one

	Region, AccessKeyID, SecretAccessKey string

	Buckets []Bucket // made if they are missing

	// EventBucket is the bucket whose created objects are told to the queue
	// EventQueueURL at SQSEndpoint; empty means none. The SQS fields after
	// those default to the S3 ones above.
	EventBucket, EventQueueURL, SQSEndpoint       string
	EventRemovals                                 bool // deleted ones too
	EventTagging                                  bool // and those that got other tags
	SQSRegion, SQSAccessKeyID, SQSSecretAccessKey string
}

func (cfg Config) validate() error {
	var problems []error
	if !filepath.IsAbs(cfg.Dir) {
		problems = append(problems, fmt.Errorf("field Dir: got %q, expected an absolute path", cfg.Dir))
	}
	for field, value := range map[string]string{
		"Region": cfg.Region, "AccessKeyID": cfg.AccessKeyID, "SecretAccessKey": cfg.SecretAccessKey,
	} {
		if value == "" {
			problems = append(problems, fmt.Errorf("%s: got nothing, expected a value", field))
		}
	}
	if cfg.EventBucket != "" && (cfg.EventQueueURL == "" || cfg.SQSEndpoint == "") {
		problems = append(problems, fmt.Errorf("EventBucket: got %q without EventQueueURL and SQSEndpoint", cfg.EventBucket))
	}
	return errors.Join(problems...)
}

// Server is a running S3 server.
type Server struct {
	Endpoint string // URL; buckets are addressed by path

	cmd  *exec.Cmd
	life io.Closer     // the child ends when this closes
	done chan struct{} // closed once the child is gone
}

// startAttempts is how often Start picks another port when one it found free
// was taken before the child could have it.
const startAttempts = 3

// Start starts a server and returns once it answers and has its buckets. ctx
// bounds the start only: the server runs until Stop, or until this process is
// gone.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	cfg.SQSRegion = cmp.Or(cfg.SQSRegion, cfg.Region)
	cfg.SQSAccessKeyID = cmp.Or(cfg.SQSAccessKeyID, cfg.AccessKeyID)
	cfg.SQSSecretAccessKey = cmp.Or(cfg.SQSSecretAccessKey, cfg.SecretAccessKey)
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("start S3 server: %w", err)
	}
	attempts := startAttempts
	if cfg.Port != 0 {
		attempts = 1
	}
	var err error
	for range attempts {
		var server *Server
		if server, err = start(ctx, cfg); err == nil || ctx.Err() != nil {
			return server, err
		}
	}
	return nil, err
}

func start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Port == 0 {
		port, err := freePort()
		if err != nil {
			return nil, fmt.Errorf("find a port for the S3 server: %w", err)
		}
		cfg.Port = port
	}
	server, err := launch(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start S3 server on port %d: %w", cfg.Port, err)
	}
	if err := makeBuckets(ctx, server.Endpoint, cfg); err != nil {
		server.kill()
		return nil, fmt.Errorf("make the buckets of the S3 server: %w", err)
	}
	return server, nil
}

// launch starts the child and waits for its word that it listens.
func launch(ctx context.Context, cfg Config) (*Server, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(executable)
	cmd.Env = append(os.Environ(), childMarker+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	server := &Server{
		Endpoint: "http://" + address(cfg.Port),
		cmd:      cmd, life: stdin, done: make(chan struct{}),
	}
	answer := make(chan error, 1)
	go func() {
		answer <- greet(stdin, stdout, cfg)
		_, _ = io.Copy(io.Discard, stdout)
		_ = cmd.Wait()
		close(server.done)
	}()
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		server.kill()
		return nil, err
	}
	return server, nil
}

// greet hands the child its configuration and reads its answer.
func greet(stdin io.Writer, stdout io.Reader, cfg Config) error {
	if err := json.NewEncoder(stdin).Encode(cfg); err != nil {
		return fmt.Errorf("hand the configuration over: %w", err)
	}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		return errors.New("the child ended before it listened")
	}
	var answer childAnswer
	if err := json.Unmarshal(line, &answer); err != nil {
		return fmt.Errorf("read the child's answer %q: %w", line, err)
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}

// Pid is the child's process ID.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Done is closed once the server's process is gone, for whatever reason.
func (s *Server) Done() <-chan struct{} { return s.done }

// Stop asks the child to finish its requests, send its events and end. It
// returns once the child is gone; when ctx is done first, the child is killed
// and Stop says so. Stop may be called again.
func (s *Server) Stop(ctx context.Context) error {
	_ = s.life.Close() // the same to the child as SIGTERM, on every system
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	s.kill()
	return fmt.Errorf("stop S3 server %d: killed: %w", s.Pid(), ctx.Err())
}

func (s *Server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

func makeBuckets(ctx context.Context, endpoint string, cfg Config) error {
	client := s3.New(s3.Options{
		Region:       cfg.Region,
		BaseEndpoint: &endpoint,
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(cfg.AccessKeyID, cfg.SecretAccessKey, ""),
	})
	for _, bucket := range cfg.Buckets {
		in := &s3.CreateBucketInput{Bucket: &bucket.Name}
		if cfg.Region != "us-east-1" {
			in.CreateBucketConfiguration = &types.CreateBucketConfiguration{
				LocationConstraint: types.BucketLocationConstraint(cfg.Region),
			}
		}
		_, err := client.CreateBucket(ctx, in)
		if _, exists := errors.AsType[*types.BucketAlreadyOwnedByYou](err); err != nil && !exists {
			return fmt.Errorf("create bucket %q: %w", bucket.Name, err)
		}
		if !bucket.Versioned {
			continue
		}
		if _, err := client.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
			Bucket:                  aws.String(bucket.Name),
			VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
		}); err != nil {
			return fmt.Errorf("version bucket %q: %w", bucket.Name, err)
		}
	}
	return nil
}

// address is where a server listens: this machine only.
func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func freePort() (int, error) {
	listener, err := net.Listen("tcp", address(0))
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil //nolint:errcheck // the address of "tcp"
}
