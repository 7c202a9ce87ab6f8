// Command artifacts tells how large the built functions are, as programs and as the zip files that Lambda gets, and their digests: artifacts FOLDER.
package main

import (
	"fmt"
	"log"
	"os"

	"github.com/waybillhq/waybill/scripts/artifacts/archive"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: artifacts FOLDER, where FOLDER holds NAME/bootstrap for each function, such as dist")
	}
	all, err := archive.List(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for _, a := range all {
		fmt.Printf("%-10s %6.2f MB, zip %5.2f MB, sha256 of the program %x, of the zip %x\n",
			a.Name, float64(a.ProgramBytes)/1e6, float64(a.ZipBytes)/1e6, a.ProgramSHA256[:8], a.ZipSHA256[:8])
	}
}
