import java.io.PrintWriter;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import javax.crypto.spec.SecretKeySpec;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.core.interceptor.Context;
import software.amazon.awssdk.core.interceptor.ExecutionAttributes;
import software.amazon.awssdk.core.interceptor.ExecutionInterceptor;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.http.SdkHttpRequest;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.s3.S3AsyncClient;
import software.amazon.awssdk.services.s3.S3BaseClientBuilder;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.encryption.s3.CommitmentPolicy;
import software.amazon.encryption.s3.S3EncryptionClient;
import software.amazon.encryption.s3.algorithms.AlgorithmSuite;

/**
 * Puts or gets every file of a folder under its name, encrypted with the AES key in a file.
 *
 * <p>Arguments: put|get, v2|v3, endpoint, bucket, key file, folder, and for get the names of the objects. What cannot
 * be decrypted leaves a file NAME.error with the stack trace in it.
 */
public final class Main {
  public static void main(String[] arguments) throws Exception {
    var endpoint = URI.create(arguments[2]);
    var bucket = arguments[3];
    var key = new SecretKeySpec(Files.readAllBytes(Path.of(arguments[4])), "AES");
    var folder = Path.of(arguments[5]);
    try (var plain = local(S3Client.builder(), endpoint).build();
        var plainAsync = local(S3AsyncClient.builder(), endpoint).build();
        var client = encryptionClient(arguments[1], key, plain, plainAsync)) {
      if (arguments[0].equals("put")) {
        put(client, bucket, folder);
      } else {
        get(client, bucket, folder, List.of(arguments).subList(6, arguments.length));
      }
    }
  }

  private static <B extends S3BaseClientBuilder<B, C>, C> B local(B builder, URI endpoint) {
    var credentials = AwsBasicCredentials.create("test", "test");
    return builder
        .endpointOverride(endpoint)
        .forcePathStyle(true)
        .region(Region.US_EAST_1)
        .credentialsProvider(StaticCredentialsProvider.create(credentials))
        .overrideConfiguration(settings -> settings.addExecutionInterceptor(new NoExpect()));
  }

  /** The asynchronous client takes werkzeug's "100 Continue" for the answer: do not ask for it. */
  private static final class NoExpect implements ExecutionInterceptor {
    @Override
    public SdkHttpRequest modifyHttpRequest(
        Context.ModifyHttpRequest context, ExecutionAttributes attributes) {
      return context.httpRequest().toBuilder().removeHeader("Expect").build();
    }
  }

  private static S3EncryptionClient encryptionClient(
      String format, SecretKeySpec key, S3Client plain, S3AsyncClient plainAsync) {
    var builder =
        S3EncryptionClient.builderV4().aesKey(key).wrappedClient(plain).wrappedAsyncClient(plainAsync);
    if (format.equals("v2")) {
      builder
          .commitmentPolicy(CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT)
          .encryptionAlgorithm(AlgorithmSuite.ALG_AES_256_GCM_IV12_TAG16_NO_KDF);
    }
    return builder.build();
  }

  private static void put(S3EncryptionClient client, String bucket, Path folder) throws Exception {
    try (var files = Files.list(folder)) {
      for (var file : files.sorted().toList()) {
        var name = file.getFileName().toString();
        client.putObject(request -> request.bucket(bucket).key(name), RequestBody.fromFile(file));
      }
    }
  }

  private static void get(S3EncryptionClient client, String bucket, Path folder, List<String> names)
      throws Exception {
    for (var name : names) {
      try {
        var body = client.getObjectAsBytes(request -> request.bucket(bucket).key(name));
        Files.write(folder.resolve(name), body.asByteArray());
      } catch (RuntimeException error) {
        try (var out = new PrintWriter(folder.resolve(name + ".error").toFile())) {
          error.printStackTrace(out);
        }
      }
    }
  }
}
