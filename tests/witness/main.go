// A witness (C2SP tlog-witness) that shares no code with Keyledger: it verifies checkpoints with the reference
// implementation of the Go checksum database, golang.org/x/mod/sumdb (tlog and note), and cosigns them with Go's Ed25519.
//
// Its state is in a file that is written before each answer. Its first line of output is its key, the second its address.
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

var (
	name   = flag.String("name", "witness.example", "the name of the witness")
	listen = flag.String("listen", "127.0.0.1:0", "the listening address")
	file   = flag.String("state", "", "the file with the checkpoints seen so far")
	seed   = flag.Int("seed", 1, "the seed of its key")
)

var (
	key   ed25519.PrivateKey
	id    []byte
	mutex sync.Mutex
	state struct {
		Logs map[string]string // a log's verifier key by its name
		Seen map[string]tlog.Tree
	}
)

func main() {
	flag.Parse()
	key = ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(*seed)), ed25519.SeedSize))[:ed25519.SeedSize])
	public := append([]byte{4}, key.Public().(ed25519.PublicKey)...)
	hash := sha256.Sum256(append([]byte(*name+"\n"), public...))
	id = hash[:4]
	state.Logs, state.Seen = map[string]string{}, map[string]tlog.Tree{}
	if text, err := os.ReadFile(*file); err == nil {
		if err := json.Unmarshal(text, &state); err != nil {
			panic(err)
		}
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s+%x+%s\n", *name, id, base64.StdEncoding.EncodeToString(public))
	fmt.Printf("http://%s/sub\n", listener.Addr())
	http.HandleFunc("/sub/add-checkpoint", addCheckpoint)
	// The endpoint at which the operator of the witness registers a log.
	http.HandleFunc("/know", func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		verifier, err := note.NewVerifier(strings.TrimSpace(string(text)))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		mutex.Lock()
		defer mutex.Unlock()
		state.Logs[verifier.Name()] = strings.TrimSpace(string(text))
	})
	panic(http.Serve(listener, nil))
}

type refusal struct {
	status int
	reason string
}

func addCheckpoint(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil || r.Method != "POST" {
		http.Error(w, "not a POST", http.StatusMethodNotAllowed)
		return
	}
	mutex.Lock()
	defer mutex.Unlock()
	body, size, refused := cosign(string(text))
	switch {
	case refused == nil:
		fmt.Fprint(w, body)
	case refused.status == http.StatusConflict:
		w.Header().Set("Content-Type", "text/x.tlog.size")
		w.WriteHeader(refused.status)
		fmt.Fprintf(w, "%d\n", size)
	default:
		http.Error(w, refused.reason, refused.status)
	}
}

func cosign(text string) (string, int64, *refusal) {
	bad := &refusal{http.StatusBadRequest, "malformed"}
	head, signed, found := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	old, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "old "), 10, 64)
	if !found || err != nil || lines[0] != fmt.Sprintf("old %d", old) || len(lines) > 64 {
		return "", 0, bad
	}
	var proof tlog.TreeProof
	for _, line := range lines[1:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return "", 0, bad
		}
		proof = append(proof, hash)
	}
	origin, _, _ := strings.Cut(signed, "\n")
	known, isKnown := state.Logs[origin]
	if !isKnown {
		return "", 0, &refusal{http.StatusNotFound, "an unknown log"}
	}
	verifier, err := note.NewVerifier(known)
	if err != nil {
		panic(err)
	}
	opened, err := note.Open([]byte(signed), note.VerifierList(verifier))
	if err != nil {
		return "", 0, &refusal{http.StatusForbidden, err.Error()}
	}
	rows := strings.Split(opened.Text, "\n")
	tree := tlog.Tree{}
	if tree.Hash, err = tlog.ParseHash(rows[2]); err != nil {
		return "", 0, bad
	}
	if tree.N, err = strconv.ParseInt(rows[1], 10, 64); err != nil || old > tree.N {
		return "", 0, bad
	}
	seen := state.Seen[origin]
	if seen.N != old {
		return "", seen.N, &refusal{http.StatusConflict, "another size"}
	}
	unproven := &refusal{http.StatusUnprocessableEntity, "not a continuation"}
	switch {
	case old == 0 && len(proof) > 0, old == tree.N && old > 0 && (seen.Hash != tree.Hash || len(proof) > 0):
		return "", 0, unproven
	case old > 0 && old < tree.N:
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, seen.N, seen.Hash); err != nil {
			return "", 0, unproven
		}
	}
	state.Seen[origin] = tree
	remembered, err := json.Marshal(state)
	if err == nil && *file != "" {
		err = os.WriteFile(*file, remembered, 0o600)
	}
	if err != nil {
		return "", 0, &refusal{http.StatusInternalServerError, err.Error()}
	}
	now := uint64(time.Now().Unix())
	signature := ed25519.Sign(key, []byte(fmt.Sprintf("cosignature/v1\ntime %d\n%s", now, opened.Text)))
	line := append(binary.BigEndian.AppendUint64(append([]byte{}, id...), now), signature...)
	return fmt.Sprintf("\u2014 %s %s\n", *name, base64.StdEncoding.EncodeToString(line)), 0, nil
}
