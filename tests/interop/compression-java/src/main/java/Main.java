import io.airlift.compress.snappy.SnappyHadoopStreams;
import java.io.BufferedInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.UUID;
import java.util.zip.CRC32;
import java.util.zip.CheckedInputStream;
import java.util.zip.GZIPInputStream;
import java.util.zip.GZIPOutputStream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipInputStream;
import java.util.zip.ZipOutputStream;
import org.xerial.snappy.SnappyHadoopCompatibleOutputStream;
import org.xerial.snappy.SnappyInputStream;
import org.xerial.snappy.SnappyOutputStream;

/**
 * Decompresses every file of a folder and prints a line for each: its name, the bytes in it, their CRC-32. Or
 * compresses every file of a folder, in every form, into another: FORM.NAME.
 *
 * <p>Arguments: read, form, folder; or write, folder, other folder.
 */
public final class Main {
  private static final String[] FORMS = {
    "gzip", "zip", "snappy", "hadoop_snappy", "hadoop_snappy_xerial"
  };

  public static void main(String[] arguments) throws IOException {
    try (var files = Files.list(Path.of(arguments[arguments[0].equals("read") ? 2 : 1]))) {
      for (var file : files.sorted().toList()) {
        if (arguments[0].equals("read")) {
          read(arguments[1], file);
        } else {
          write(file, Path.of(arguments[2]));
        }
      }
    }
  }

  private static void read(String form, Path file) throws IOException {
    var checksum = new CRC32();
    long bytes;
    try (var body = new BufferedInputStream(Files.newInputStream(file));
        var data = new CheckedInputStream(reader(form, body), checksum)) {
      bytes = data.transferTo(OutputStream.nullOutputStream());
    }
    System.out.println(file.getFileName() + " " + bytes + " " + checksum.getValue());
  }

  private static InputStream reader(String form, InputStream body) throws IOException {
    return switch (form) {
      case "gzip" -> new GZIPInputStream(body);
      case "zip" -> zip(body);
      case "snappy" -> new SnappyInputStream(body);
      case "hadoop_snappy" -> new SnappyHadoopStreams().createInputStream(body);
      default -> throw new IllegalArgumentException(form);
    };
  }

  private static InputStream zip(InputStream body) throws IOException {
    var archive = new ZipInputStream(body);
    UUID.fromString(archive.getNextEntry().getName());
    return archive;
  }

  private static void write(Path file, Path folder) throws IOException {
    for (var form : FORMS) {
      var target = folder.resolve(form + "." + file.getFileName());
      try (var out = writer(form, Files.newOutputStream(target))) {
        Files.copy(file, out);
      }
    }
  }

  private static OutputStream writer(String form, OutputStream body) throws IOException {
    return switch (form) {
      case "gzip" -> new GZIPOutputStream(body);
      case "zip" -> {
        var archive = new ZipOutputStream(body);
        archive.putNextEntry(new ZipEntry(UUID.randomUUID().toString()));
        yield archive;
      }
      case "snappy" -> new SnappyOutputStream(body);
      case "hadoop_snappy" -> new SnappyHadoopStreams().createOutputStream(body);
      case "hadoop_snappy_xerial" -> new SnappyHadoopCompatibleOutputStream(body);
      default -> throw new IllegalArgumentException(form);
    };
  }
}
