// An auditor that shares no code with Keyledger: it verifies a whole log over HTTP with the reference implementation of
// the Go checksum database, golang.org/x/mod/sumdb (tlog and note).
//
// It verifies the checkpoint's signature, that the tree of an older checkpoint is a prefix of this one, that every hash
// tile belongs to the signed tree, and that every entry matches its leaf.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

var (
	address = flag.String("log", "", "the service's address, such as http://127.0.0.1:7070")
	key     = flag.String("key", "", "the log's verifier key")
	token   = flag.String("token", "", "a root key with the permission events:read")
	older   = flag.String("older", "", "the file of an older checkpoint")
	corrupt = flag.String("corrupt", "", "flip a byte of the answer to this path, as a failing disk could")
)

const tileHeight = 8

func main() {
	flag.Parse()
	if err := audit(); err != nil {
		fmt.Println("FAILED:", err)
		os.Exit(1)
	}
}

func fetch(path string) ([]byte, error) {
	request, err := http.NewRequest("GET", *address+"/log/"+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+*token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", path, response.Status, body)
	}
	if path == *corrupt {
		body[len(body)/2] ^= 1
	}
	return body, nil
}

func open(text []byte, verifier note.Verifier) (tlog.Tree, error) {
	var tree tlog.Tree
	signed, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return tree, fmt.Errorf("checkpoint: %w", err)
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return tree, fmt.Errorf("checkpoint: not from the log %s: %q", verifier.Name(), signed.Text)
	}
	tree.N, err = strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tree, err
	}
	hash, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(hash) != tlog.HashSize {
		return tree, fmt.Errorf("checkpoint: bad root %q", lines[2])
	}
	copy(tree.Hash[:], hash)
	return tree, nil
}

// path is the path of a tile as C2SP defines it; the Go package uses another.
func path(tile tlog.Tile) string {
	name := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight))
	if rest := strings.TrimPrefix(name, "data/"); rest != name {
		name = "entries/" + rest
	}
	return "tile/" + name
}

// tiles reads tiles over HTTP. The caller authenticates them.
type tiles struct{}

func (tiles) Height() int { return tileHeight }

func (tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range wanted {
		data, err := fetch(path(tile))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func audit() error {
	verifier, err := note.NewVerifier(strings.TrimSpace(*key))
	if err != nil {
		return err
	}
	text, err := fetch("checkpoint")
	if err != nil {
		return err
	}
	tree, err := open(text, verifier)
	if err != nil {
		return err
	}
	hashes := tlog.TileHashReader(tree, tiles{})
	if *older != "" {
		text, err := os.ReadFile(*older)
		if err != nil {
			return err
		}
		before, err := open(text, verifier)
		if err != nil {
			return err
		}
		proof, err := tlog.ProveTree(tree.N, before.N, hashes)
		if err != nil {
			return fmt.Errorf("consistency: %w", err)
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, before.N, before.Hash); err != nil {
			return fmt.Errorf("consistency: %w", err)
		}
		fmt.Printf("%d events are a prefix of %d\n", before.N, tree.N)
	}
	if err := auditTiles(tree); err != nil {
		return err
	}
	if err := auditEntries(tree, hashes); err != nil {
		return err
	}
	fmt.Printf("%d events, all as signed\n", tree.N)
	return nil
}

// auditTiles reads every hash tile and compares it with the hashes of the tiles below it.
func auditTiles(tree tlog.Tree) error {
	below := [][]byte(nil)
	for level := 0; ; level++ {
		count := tree.N >> (tileHeight * level)
		if count == 0 {
			return nil
		}
		var here [][]byte
		for n := int64(0); n*256 < count; n++ {
			width := count - n*256
			if width > 256 {
				width = 256
			}
			data, err := fetch(path(tlog.Tile{H: tileHeight, L: level, N: n, W: int(width)}))
			if err != nil {
				return err
			}
			if len(data) != int(width)*tlog.HashSize {
				return fmt.Errorf("tile %d of level %d has %d bytes", n, level, len(data))
			}
			here = append(here, data)
		}
		for index, data := range below {
			if len(data) < 256*tlog.HashSize {
				break
			}
			parent := here[index/256][index%256*tlog.HashSize:][:tlog.HashSize]
			if root := rootOf(data); !bytes.Equal(root[:], parent) {
				return fmt.Errorf("tile %d of level %d does not match the hash above it", index, level-1)
			}
		}
		below = here
	}
}

func rootOf(tile []byte) tlog.Hash {
	var level []tlog.Hash
	for ; len(tile) > 0; tile = tile[tlog.HashSize:] {
		var hash tlog.Hash
		copy(hash[:], tile)
		level = append(level, hash)
	}
	for len(level) > 1 {
		var above []tlog.Hash
		for ; len(level) > 0; level = level[2:] {
			above = append(above, tlog.NodeHash(level[0], level[1]))
		}
		level = above
	}
	return level[0]
}

// auditEntries reads every entry and compares it with its leaf, which the hash reader authenticates.
func auditEntries(tree tlog.Tree, hashes tlog.HashReader) error {
	for n := int64(0); n*256 < tree.N; n++ {
		width := tree.N - n*256
		if width > 256 {
			width = 256
		}
		data, err := fetch(path(tlog.Tile{H: tileHeight, L: -1, N: n, W: int(width)}))
		if err != nil {
			return err
		}
		var indexes []int64
		for index := n * 256; index < n*256+width; index++ {
			indexes = append(indexes, tlog.StoredHashIndex(0, index))
		}
		leaves, err := hashes.ReadHashes(indexes)
		if err != nil {
			return fmt.Errorf("hashes of entries %d to %d: %w", n*256, n*256+width-1, err)
		}
		for index, leaf := range leaves {
			if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
				return fmt.Errorf("entry %d is cut off", n*256+int64(index))
			}
			length := int(binary.BigEndian.Uint16(data))
			if tlog.RecordHash(data[2:2+length]) != leaf {
				return fmt.Errorf("entry %d does not match its leaf", n*256+int64(index))
			}
			data = data[2+length:]
		}
		if len(data) > 0 {
			return fmt.Errorf("entries %d and on: %d bytes too many", n*256, len(data))
		}
	}
	return nil
}
